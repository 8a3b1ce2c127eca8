"""What words of captions imply that WordNet does not say: tables for the guards.

WordNet knows that a poodle is a dog. It does not know that somebody on skis is a skier, that what is "by" something
passes it, or that a young man is male.
"""

from __future__ import annotations

FREE_NOUNS = {
    *("group", "front", "side", "top", "bottom", "middle", "center", "centre", "way", "kind", "type", "bit", "part"),
}
"""Nouns that name no thing ("a group of", "in front of"): they need no support."""

FREE_VERBS = frozenset(
    """be have do get make take go come show feature include contain see seem appear use begin start let keep stay
    remain locate situate position place set put happen involve consist perform equip present call name give depict
    """.split()
)
"""Verbs that tell no action of their own ("features", "takes", "is placed"): they need no support."""

POSTURES = frozenset(
    "sit stand lie lay rest hang hold lean line stretch surround fill cover top decorate serve".split()
)
"""Verbs that tell nothing new of a thing ("a cup stands on a table"), and much of a person or an animal."""

PERSONS = frozenset(
    """man woman boy girl child person guy lady people adult kid baby player toddler friend worker couple group crowd
    family team student skier surfer rider cyclist""".split()
)

NEARLY_SAME: dict[str, frozenset[str]] = {
    "people": PERSONS,
    "lady": frozenset({"woman"}),
    "guy": frozenset({"man"}),
    "gentleman": frozenset({"man", "guy"}),
    "kid": frozenset({"child", "boy", "girl", "toddler", "baby"}),
    "child": frozenset({"boy", "girl", "kid", "toddler", "baby"}),
    "motorbike": frozenset({"motorcycle"}),
    "couch": frozenset({"sofa"}),
    "sidewalk": frozenset({"pavement"}),
}
"""Nouns that the nouns behind them support, and that WordNet does not put above them."""

_ALIKE = """
photo photograph picture image shot snapshot view close-up closeup
street road roadway
cupboard cabinet
counter countertop
racket racquet
pier dock wharf
slice piece
reflection mirror
sofa couch
sidewalk pavement walkway
luggage baggage suitcase
bike bicycle
plane airplane aircraft aeroplane
phone telephone cellphone smartphone
fridge refrigerator
tub bathtub
tv television
snowboard snow-board
enclosure pen
woods forest
earbuds headphones earphones
stoplight traffic-light
ocean sea
shore seashore seaside coast beach
rock stone boulder
dish plate
bathroom restroom washroom
hill hillside
mountain mountainside
slope hill
trash garbage
purse handbag
hat cap
mom mother
dad father
tie necktie
laptop notebook
hydrant fire-hydrant
soccer football
look gaze stare watch glance peer
watch observe view
ride drive
speak talk
jump leap hop
fly soar
walk stroll
run jog sprint
throw toss pitch
eat munch
hold carry grip grasp clutch
pet stroke
hug embrace cuddle snuggle
grin smile
sit seat
lie lay recline
pose posture
photograph picture photo
cook prepare
travel move drive go head
pull tow drag haul
hit strike
graze eat
feed eat
gather group cluster
big large
small little tiny
fast quick quickly speed
old vintage antique
colorful colored color bright
pretty beautiful
handmade homemade home-made
furry fluffy
several group bunch various many
parked stopped
"""


def _groups() -> dict[str, frozenset[str]]:
    alike: dict[str, set[str]] = {}
    for line in _ALIKE.strip().splitlines():
        words = line.split()
        for word in words:
            alike.setdefault(word, set()).update(words)
    return {word: frozenset(others) for word, others in alike.items()}


ALIKE = _groups()
"""Words that captions use for one another, though WordNet keeps them apart."""

IMPLIED_BY: dict[str, frozenset[str]] = {
    word: frozenset(sources.split())
    for word, sources in {
        # Who does something.
        "player": "tennis baseball soccer football basketball volleyball hockey golf frisbee game match team batter "
        "pitcher catcher play",
        "skier": "ski skiing",
        "surfer": "surfboard surf",
        "snowboarder": "snowboard",
        "skateboarder": "skateboard skate",
        "skater": "skateboard skate",
        "rider": "ride horse motorcycle bike bicycle horseback",
        "motorcyclist": "motorcycle motorbike",
        "biker": "motorcycle motorbike bike",
        "cyclist": "bike bicycle cycle",
        "bicyclist": "bike bicycle cycle",
        "batter": "bat",
        "pedestrian": "walk sidewalk cross crosswalk",
        "audience": "watch crowd",
        "spectator": "watch crowd",
        "onlooker": "watch",
        "driver": "drive",
        "passenger": "ride",
        "owner": "their his her",
        "traveler": "luggage baggage suitcase",
        # What somebody does with something, or which way.
        "ski": "ski skier",
        "surf": "surfboard surfer",
        "skateboard": "skateboarder",
        "cycle": "bike bicycle",
        "bike": "bicycle",
        "descend": "down",
        "climb": "up",
        "ascend": "up",
        "enter": "into",
        "exit": "out",
        "leave": "out from",
        "cross": "across",
        "approach": "toward towards",
        "follow": "behind",
        "pass": "by past",
        "wear": "in with dress outfit",
        "dress": "in wear",
        "clothe": "in wear",
        "hold": "with hand",
        "fill": "full of with in",
        "full": "fill filled many of with",
        "cover": "on over snowy under",
        "surround": "around among between middle",
        "top": "on",
        "accompany": "with",
        "decorate": "with on decoration",
        "mount": "on",
        "attach": "on to tie leash",
        "tie": "leash",
        "leash": "tie",
        "line": "row rows side",
        "face": "toward look",
        "work": "use",
        "try": "to",
        "attempt": "to try",
        "prepare": "ready about",
        "ready": "prepare about",
        "graze": "eat",
        "feed": "eat",
        "take": "selfie picture photo",
        "reflect": "mirror reflection",
        "play": "game player match",
        "hand": "hold",
        "horseback": "horse",
        "equestrian": "horse",
        # What follows from a word.
        "male": "man boy men boys guy gentleman he his",
        "female": "woman girl women girls lady she her",
        "young": "child kid boy girl baby toddler infant",
        "small": "few little",
        "adult": "man woman",
        "snowy": "snow",
        "weather": "stormy sunny rainy cloudy windy snowy foggy day rain snow storm fog sun",
        "sunshine": "sunny",
        "railroad": "train track",
        "railway": "train track",
        "teddy": "stuffed",
        "flower": "rose tulip daisy sunflower lily orchid bouquet",
        "vegetable": "broccoli carrot bean salad",
        "food": "meal dish pizza sandwich",
        "meal": "food dish",
        "drink": "beverage coffee tea beer wine juice soda",
        "beverage": "drink coffee tea beer wine juice soda",
        "other": "another",
        "person": "someone somebody",
        "middle": "center",
        "handle": "hold",
        "team": "player players",
        "cutlery": "fork knife spoon",
        "electronics": "computer laptop monitor",
        "water": "lake ocean sea river pool wave",
        "rest": "sit lie lay sleep lean",
        "alone": "lone",
        "lone": "alone",
        "wooden": "wood",
        "inside": "interior indoor",
        "interior": "inside",
    }.items()
}
"""Words, and words of the support that imply them."""

COUNTED_PERSONS = frozenset({"people", "person", "player", "rider", "man", "woman", "child", "kid", "skier", "friend"})
"""Nouns of which "a man and a woman" are two."""
