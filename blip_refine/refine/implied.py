"""What words of captions imply that WordNet does not say: tables for the guards.

WordNet knows that a poodle is a dog. It does not know that somebody on skis is a skier, that what is "by" something
passes it, or that a young man is male.
"""

from __future__ import annotations

from importlib.resources import files

FREE_NOUNS = {
    *("group", "front", "side", "top", "bottom", "middle", "center", "centre", "way", "kind", "type", "bit", "part"),
    *("variety", "number", "place", "color", "colour", "size", "shape", "inside", "background", "foreground"),
}
"""Nouns that name no thing ("a group of", "in front of"): they need no support."""

FREE_VERBS = frozenset(
    """be have do get make take go come show feature include contain see seem appear use begin start let keep stay
    remain locate situate position place set put happen involve consist perform equip present call name give
    depict store own describe capture view""".split()
)
"""Verbs that tell no action of their own ("features", "takes", "is placed"): they need no support."""

POSTURES = frozenset(
    "park face sit stand lie lay rest hang hold lean line stretch surround fill cover top decorate serve".split()
)
"""Verbs that tell nothing new of a thing ("a cup stands on a table"), and much of a person or an animal."""

PERSONS = frozenset(
    """man woman boy girl child person guy lady people adult kid baby player toddler friend worker couple group crowd
    family team student skier surfer rider cyclist""".split()
)

NEARLY_SAME: dict[str, frozenset[str]] = {
    "people": PERSONS,
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
        "passenger": "ride jetliner airliner",
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
        "station": "platform train",
        "dessert": "cake pie donut doughnut cookie ice",
        "dragonfly": "dragon",
        "share": "group together around",
        "arrange": "line row set",
        "carry": "with luggage bag",
        "seat": "sit",
        "photographer": "camera photograph",
        "chef": "cook kitchen",
        "commuter": "train bus station",
        "park": "sit vehicle",
        "traffic": "car vehicle bus truck",
        "athlete": "player tennis baseball soccer ski surf",
        "fisherman": "fish",
        "toothbrush": "brush",
        "luggage": "suitcase bag",
        "bag": "luggage baggage",
        "midair": "air",
        "air": "midair airborne",
        "airborne": "air fly jump",
        "aerial": "air",
        "trick": "flip twist stunt",
        "stunt": "trick flip",
        "mountain": "mountainside",
        "ocean": "wave sea",
        "alcoholic": "beer wine drink",
        "bedridden": "bed",
        "edge": "near next by along",
        "various": "different assorted several many",
        "busy": "crowded many traffic",
        "crowded": "crowd busy many",
        "crowd": "busy many",
        "clothes": "shirt pants dress jacket suit uniform",
        "clothing": "shirt pants dress jacket suit uniform",
        "computer": "laptop macbook",
        "appliance": "refrigerator stove oven microwave fridge",
        "furniture": "chair table sofa couch bed",
        "produce": "fruit vegetable",
        "dine": "eat",
        "ride": "surf surfboard skateboard snowboard horseback rider cyclist motorcyclist bike",
        "motorcycle": "motorcyclist biker",
        "people": "motorcyclist snowboarder skateboarder biker",
        "cat": "kitten",
        "dog": "puppy",
        "sheep": "lamb ewe ram",
        "horse": "pony foal equestrian horseback",
        "cow": "calf cattle",
        "cheeseburger": "burger hamburger",
        "stoplight": "traffic",
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
        "wood": "wooden",
        "woolen": "wool",
        "golden": "gold",
        "metallic": "metal",
        "youth": "young",
        "youngster": "young",
        "row": "line lined",
        "line": "row rows queue side",
        "ingredient": "food item salad",
        "lie": "bed lay",
        "game": "play wii match",
        "racetrack": "race",
        "run": "go travel",
        "cross": "across",
        "inside": "interior indoor",
        "interior": "inside",
    }.items()
}
"""Words, and words of the support that imply them."""

FREE_WORDS = frozenset("close closely together near nearby alongside bright brightly partially partly".split())
"""Words of manner and distance that say next to nothing."""

SAID_AS_PLURAL = frozenset(
    "sky game weather street track stair wood ski headphone earbud water clothes rail wave cloud".split()
)
"""Nouns of which one and several are said alike ("train track", "train tracks")."""
