"""What words of captions imply that WordNet does not say: tables for the guards.

WordNet knows that a poodle is a dog. It does not know that somebody on skis is a skier, that what is "by" something
passes it, or that a young man is male.
"""

from __future__ import annotations

from importlib.resources import files

FREE_NOUNS = {
    *("group", "front", "side", "top", "bottom", "middle", "center", "centre", "way", "kind", "type", "bit", "part"),
    *("variety", "number", "place", "color", "colour", "size", "shape", "inside", "background", "foreground"),
    # Where, and how near.
    *("scene", "view", "area", "setting", "landscape", "surroundings", "environment", "location", "position", "spot"),
    *(
        "space",
        "section",
        "region",
        "site",
        "surface",
        "stretch",
        "direction",
        "distance",
        "proximity",
        "vicinity",
        "presence",
        "end",
        "edge",
    ),
    # How, and how much.
    *(
        "manner",
        "style",
        "form",
        "design",
        "motif",
        "pattern",
        "portion",
        "serving",
        "height",
        "length",
        "width",
        "speed",
        "pace",
        "degree",
        "amount",
    ),
    *(
        "quantity",
        "range",
        "series",
        "set",
        "assortment",
        "array",
        "selection",
        "collection",
        "display",
        "arrangement",
    ),
    # What is done, or is there.
    *("act", "action", "activity", "process", "motion", "movement", "moment", "time", "session"),
    *("appearance", "image", "element", "detail", "feature", "piece", "item", "object", "thing"),
}
"""Nouns that name no thing of their own ("a group of", "in close proximity"): they need no support."""

FREE_VERBS = frozenset(
    """be have do get make take go come show feature include contain see seem appear use begin start let keep stay
    remain locate situate position place set put happen involve consist perform equip present call name give
    depict store own describe capture view
    engage participate partake enjoy execute conduct display exhibit portray illustrate boast bear possess
    manage proceed continue occur comprise constitute represent""".split()
)
"""Verbs that tell no action of their own ("features", "takes", "is placed"): they need no support."""

POSTURES = frozenset(
    """park face sit stand lie lay rest hang hold lean line stretch surround fill cover top decorate serve
    adorn arrange accompany stack pile heap drape enclose encircle border flank furnish occupy plant stick set lay
    mount scatter spread crowd pack await support house extend tower protrude adjoin prop
    fit stock load leave""".split()
)
"""Verbs that tell nothing new of a thing ("a cup stands on a table"), and much of a person or an animal."""

RIDDEN = frozenset(
    """horse pony elephant camel donkey motorcycle motorbike bike bicycle scooter moped skateboard surfboard snowboard
    wave skis""".split()
)
"""What who is on it rides."""

MOTIONS = frozenset(
    "travel move go run roll drive pass head cruise glide proceed approach fly soar ride float sail steer".split()
)
"""Verbs of which one is as good as the other for a vehicle."""

WIDE_VERBS = frozenset("move travel walk run play work make stand sit lie lay hold touch eat turn change act".split())
"""Verbs with kinds that tell much more than they do."""

PERSONS = frozenset(
    """man woman boy girl child person guy lady people adult kid baby player toddler friend worker couple group crowd
    family team student skier surfer rider cyclist""".split()
)

YOUNG: dict[str, frozenset[str]] = {
    "calf": frozenset("cow cattle elephant giraffe bison buffalo".split()),
    "lamb": frozenset({"sheep", "ewe", "ram"}),
    "foal": frozenset({"horse", "mare", "zebra"}),
    "cub": frozenset({"bear", "lion", "tiger", "panda"}),
    "kitten": frozenset({"cat"}),
    "puppy": frozenset({"dog"}),
    "chick": frozenset({"bird", "chicken", "hen"}),
    "duckling": frozenset({"duck"}),
    "kid": frozenset({"goat"}),
}
YOUNG["mother"] = frozenset().union(*YOUNG.values())
"""What the young of an animal is called: "a baby cow" is a calf."""

YOUNG_PERSONS: dict[str, frozenset[str]] = {
    "girl": frozenset({"woman", "lady", "female"}),
    "boy": frozenset({"man", "male", "guy"}),
}
"""What somebody is called who is "young" in the draft: "a young woman" is a girl."""

NEGATIVE = frozenset("lack miss absent absence devoid bare empty exclude omit fail avoid".split())
"""Words that say "not" or "without" in their own way; so do words in "-less" and "-free"."""

COLLECTIVES = frozenset(
    """group herd flock bunch pack row line pile stack collection assortment variety series set lot lots number array
    cluster team school range crowd dozen selection heap plenty couple pair trio""".split()
)
"""What is "of" these is more than one, whatever its form: "a herd of zebra"."""

NEARLY_SAME: dict[str, frozenset[str]] = {
    **dict.fromkeys(("people", "person", "individual", "human", "figure"), PERSONS),
    "man": frozenset({"guy", "gentleman", "male"}),
    "woman": frozenset({"lady", "female"}),
    "lady": frozenset({"woman"}),
    "guy": frozenset({"man", "male"}),
    "gentleman": frozenset({"man", "guy"}),
    "kid": frozenset({"child", "boy", "girl", "toddler", "baby"}),
    "child": frozenset({"boy", "girl", "kid", "toddler", "baby"}),
    "motorbike": frozenset({"motorcycle"}),
    "couch": frozenset({"sofa"}),
    "sidewalk": frozenset({"pavement"}),
}
"""Nouns that the nouns behind them support, and that WordNet does not put above them."""


def _groups() -> dict[str, frozenset[str]]:
    alike: dict[str, set[str]] = {}
    for line in files(__package__).joinpath("alike.txt").read_text(encoding="utf-8").splitlines():
        words = line.split()
        for word in words:
            alike.setdefault(word, set()).update(words)
    return {word: frozenset(others) for word, others in alike.items()}


ALIKE = _groups()
"""Words that captions use for one another, though WordNet keeps them apart: the lines of `alike.txt`."""


def _implied() -> dict[str, frozenset[str]]:
    text = files(__package__).joinpath("implied.txt").read_text(encoding="utf-8")
    lines = [line.partition(":") for line in text.splitlines() if line and not line.startswith("#")]
    return {word: frozenset(sources.split()) for word, _, sources in lines}


IMPLIED_BY = _implied()
"""Words, and words of the support that imply them: the lines of `implied.txt`."""

FREE_WORDS = frozenset(
    """close closely together near nearby alongside bright brightly partially partly visible visibly present
    fully completely entirely mostly mainly primarily currently actively directly immediately simply slightly highly
    relatively seemingly apparently additional respective respectively overall entire whole""".split()
)
"""Words of manner, degree and distance that say next to nothing."""

BROADER: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("proceed navigate traverse journey progress head cruise pass".split(), ("travel", "move")),
    **dict.fromkeys("interact engage".split(), ("touch", "talk", "play")),
    **dict.fromkeys("consume dine".split(), ("eat", "drink")),
    **dict.fromkeys("observe view".split(), ("look", "watch")),
}
"""Verbs that say no more than the verbs behind them, whose kinds support them: "drives" is "proceeds"."""

DEGREES = frozenset("great high low considerable immense heavy full".split())
"""Adjectives that say no more than "very" before a word that needs no support ("at great speed")."""

ZERO_PLURALS = frozenset("sheep deer fish moose bison cattle buffalo elk salmon trout swine aircraft".split())
"""Nouns of which one and several are written alike."""

SAID_AS_PLURAL = frozenset(
    """sky game weather street track stair wood ski headphone earbud water clothes rail wave cloud
    hand foot arm leg ear eye face food fruit vegetable meat hair grass snow sand land light equipment surrounding
    shoe boot glove sock curtain blind grounds area side""".split()
)
"""Nouns of which one and several are said alike ("train track", "train tracks")."""
