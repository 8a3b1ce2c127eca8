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
    *("space", "section", "region", "site", "surface", "stretch", "direction", "distance", "proximity", "vicinity", "presence", "end", "edge"),
    # How, and how much.
    *("manner", "style", "form", "design", "motif", "pattern", "portion", "serving", "height", "length", "width", "speed", "pace", "degree", "amount"),
    *("quantity", "range", "series", "set", "assortment", "array", "selection", "collection", "display", "arrangement"),
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
    mount scatter spread crowd pack await support house extend tower protrude adjoin prop""".split()
)
"""Verbs that tell nothing new of a thing ("a cup stands on a table"), and much of a person or an animal."""

MOTIONS = frozenset("travel move go run roll drive pass head cruise glide proceed approach fly soar ride float sail".split())
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
        "wear": "in with dress outfit smile expression",
        "dress": "in wear",
        "clothe": "in wear",
        "hold": "with hand",
        "fill": "full of with in many",
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
        "work": "use",
        "try": "to",
        "attempt": "to try",
        "ready": "prepare about",
        "graze": "eat",
        "feed": "eat",
        "take": "selfie picture photo",
        "reflect": "mirror reflection",
        "play": "game player match",
        "horseback": "horse",
        "equestrian": "horse",
        "station": "platform train",
        "dessert": "cake pie donut doughnut cookie ice",
        "dragonfly": "dragon",
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
        "midair": "air fly jump",
        "air": "midair airborne fly jump sky kite plane airplane",
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
        # Parts of the body that are at work.
        "face": "toward look smile frown grin expression",
        "hand": "hold carry grip with wave",
        "foot": "kick stand walk",
        "mouth": "eat bite lick hold",
        # Where.
        "ground": "snow sand grass dirt land field floor earth",
        "terrain": "ground land landscape hill slope mountain snow dirt rock field",
        "workspace": "desk office",
        "workstation": "desk computer",
        "countryside": "field rural pasture",
        "greenery": "tree plant bush grass leaf leaves green",
        "vegetation": "tree plant bush grass leaf leaves green",
        "shoreline": "beach shore coast water",
        "cityscape": "city building",
        "outdoors": "field park street beach outside outdoor",
        "snowfall": "snow",
        "snow-covered": "snow snowy",
        "overhead": "over above sky fly",
        "above": "over",
        "downhill": "down hill slope",
        "uphill": "up",
        "downward": "down",
        "upward": "up",
        "upright": "stand up",
        "forward": "toward towards",
        "adjacent": "next beside near by alongside",
        "adjoin": "next beside near by alongside",
        "neighboring": "next beside near by",
        "roadside": "road street",
        "curbside": "curb street",
        "central": "center centre middle",
        "individually": "each",
        # Many together, alone, or none.
        "gather": "people group several crowd many few couple together",
        "assemble": "people group several crowd many together",
        "single": "a an one lone alone",
        "solitary": "a an one lone alone",
        "individual": "one each person someone people",
        "multiple": "several many various different",
        "share": "group together around each",
        "lack": "no not without n't miss",
        "absent": "no not without n't miss",
        "absence": "no not without n't miss",
        "devoid": "no not without n't empty",
        # What comes with what is done.
        "stand": "wait pose",
        "wait": "ready prepare",
        "prepare": "ready about wait set work",
        "busy": "work many crowded traffic",
        "heavy": "busy traffic crowded",
        "flat": "back lie lay",
        "match": "game play compete",
        "flight": "fly",
        "meal": "eat food dish",
        "fully": "adult full",
        "grown": "adult",
        "enclosure": "fence pen cage",
        "don": "wear in with",
        "clad": "wear in dress",
        "attire": "wear dress",
        "sport": "wear",
        "catch": "wave surf",
        "atop": "on top",
        "horseman": "horse",
        "horsewoman": "horse",
        "darkness": "dark night",
        "night": "dark",
        "garnish": "with top on",
        "sprinkle": "with top on cover",
        "coat": "cover with in",
        "litter": "cover full with",
        "line": "row rows queue side along",
        "stretch": "long line row",
        "interact": "play talk pet feed look with",
        "socialize": "talk group together",
        "cabinetry": "cabinet",
        "signage": "sign",
        "pedal": "bike bicycle cyclist",
        "two-wheeled": "bike bicycle motorcycle",
        "vehicle": "traffic",
        "savanna": "africa grassland plain",
        "grassland": "grass field plain",
        "sandwich": "sub burger hoagie",
        "hitter": "bat batter",
        "hit": "bat swing",
        "aircraft": "jet plane airplane jetliner airliner helicopter",
        "sea": "ocean wave",
        "lift": "up raise",
        "jump": "air midair leap",
        "leap": "air midair jump",
        "duo": "two couple pair",
        "device": "phone laptop computer camera tablet remote",
        "technology": "laptop computer phone monitor",
        "dough": "pizza bread",
        "grassy": "grass field pasture meadow lawn",
        "sandy": "sand beach",
        "leafy": "leaf leaves tree",
        "waterside": "water lake river",
        "beachgoer": "beach people",
        "worker": "work",
        "formation": "row line together group",
        "alongside": "next beside by",
        "nighttime": "night dark",
        "elderly": "old older senior",
        "bridle": "rein",
        "celebrate": "birthday party wedding celebration",
        "celebration": "birthday party wedding celebrate",
        "lover": "love",
        "maneuver": "ride drive ski surf skateboard snowboard fly",
        "guide": "lead herd walk leash",
        "relax": "rest lie lay lounge",
        "nestle": "sit lie lay rest between",
        "recline": "lie lay rest lounge",
        "board": "surfboard snowboard skateboard get onto",
        "competitor": "player race compete match",
        "participant": "player race compete match",
        "passerby": "people walk pedestrian",
        "seating": "chair bench couch sofa seat",
        "headgear": "hat helmet cap",
        "eyewear": "glasses sunglasses goggles",
        "footwear": "shoe boot sandal",
        "belongings": "luggage bag suitcase",
        "tableware": "plate bowl dish cup fork knife spoon",
        "floral": "flower",
        "half-eaten": "eat half bite",
        # What follows from a word.
        "woman": "she her female",
        "man": "he his him male",
        "small": "few little young",
        "male": "man boy men boys guy gentleman he his",
        "female": "woman girl women girls lady she her",
        "young": "child kid boy girl baby toddler infant",
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
        "ingredient": "food item salad",
        "lay": "rest lie",
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
