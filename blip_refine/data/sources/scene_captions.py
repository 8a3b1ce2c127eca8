"""What people say of the drawn scenes: five sentences a picture, in the manner of its domain.

Two domains differ in what is seen, where, and in how it is told: "everyday" is told as in an album ("there is an
orange car to the left of a green tree"), "adventure" as in a catalogue ("illustration : two robots in red , desert").
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ...records import SceneObject

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
PLURALS = {"box": "boxes", "fish": "fish", "cactus": "cacti"}

VERBS = {
    "ball": ("lies", "lie"),
    "boat": ("floats", "float"),
    "car": ("is parked", "are parked"),
    "fish": ("swims", "swim"),
    "flower": ("grows", "grow"),
    "house": ("stands", "stand"),
    "kite": ("flies", "fly"),
    "star": ("shines", "shine"),
    "tree": ("grows", "grow"),
}

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    # The first is what most people say; the others come up now and then.
    "beach": ("at the beach", "on the beach", "on the sand"),
    "grass": ("on the grass", "in the grass", "in a green field"),
    "snow": ("in the snow", "in a snowy field"),
    "night": ("at night", "in the dark", "under the night sky"),
    "room": ("in a room", "inside a room", "on the floor"),
    "desert": ("desert", "sandy desert"),
    "seabed": ("seabed", "deep sea"),
    "moon": ("moon", "dusty moon"),
    "city": ("city", "city street"),
    "forest": ("forest", "pine forest"),
}

INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
EVERYDAY_RELATIONS = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
CATALOGUE_RELATIONS = {
    "left": "on the left , {b} on the right",
    "right": "on the right , {b} on the left",
    "above": "at the top , {b} underneath",
    "below": "underneath , {b} at the top",
}


@dataclass(frozen=True)
class SceneContent:
    """What a scene shows, before anybody says a word about it.

    Args:
        place (`str`): A key of `PLACE_PHRASES`.
        objects (`tuple[SceneObject, ...]`): One or two kinds of things.
        relation (`str`, *optional*): Where the first is, seen from the second: "left", "right", "above" or "below".
    """

    place: str
    objects: tuple[SceneObject, ...]
    relation: str | None = None


def article(word: str) -> str:
    """ "an" before a vowel, else "a": right for every colour, size and thing that is drawn here."""
    return "an" if word[0] in "aeiou" else "a"


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def noun_phrase(thing: SceneObject) -> str:
    """ "an orange car", "two small red fish"."""
    words = [word for word in (thing.size, thing.color) if word]
    if thing.count > 1:
        return " ".join([NUMBERS[thing.count], *words, plural(thing.name)])
    words.append(thing.name)
    return " ".join([article(words[0]), *words])


def _catalogue_phrase(thing: SceneObject) -> str:
    """ "robot in red", "three small cacti in green"."""
    noun = thing.name if thing.count == 1 else plural(thing.name)
    words = [NUMBERS[thing.count] if thing.count > 1 else "", thing.size or "", noun, "in", thing.color or ""]
    return " ".join(word for word in words if word)


def _usually(options: Sequence[str], rng: random.Random) -> str:
    return options[0] if rng.random() < 0.6 else rng.choice(options)


def _everyday(scene: SceneContent, rng: random.Random) -> list[str]:
    def place() -> str:
        return _usually(PLACE_PHRASES[scene.place], rng)

    first = scene.objects[0]
    a = noun_phrase(first)
    many = first.count > 1
    be = "are" if many else "is"
    if len(scene.objects) == 1:
        verb = VERBS.get(first.name, ("sits", "sit"))[many]
        return [
            f"{a} {place()}",
            f"there {be} {a} {place()}",
            f"a picture of {a} {place()}",
            f"{a} {verb} {place()}",
            rng.choice((f"a drawing of {a}", f"{a} and nothing else {place()}", f"{a} {be} {place()}")),
        ]
    assert scene.relation is not None
    b = noun_phrase(scene.objects[1])
    relation = EVERYDAY_RELATIONS[scene.relation]
    inverse = EVERYDAY_RELATIONS[INVERSE[scene.relation]]
    near = "next to" if scene.relation in ("left", "right") else relation
    return [
        f"{a} {relation} {b} {place()}",
        f"{b} {inverse} {a} {place()}" if rng.random() < 0.4 else f"{a} {relation} {b} {place()}",
        f"there {be} {a} {relation} {b}",
        rng.choice((f"{a} and {b} {place()}", f"a picture of {a} and {b} {place()}")),
        f"{a} {near} {b} {place()}",
    ]


def _adventure(scene: SceneContent, rng: random.Random) -> list[str]:
    def place() -> str:
        return _usually(PLACE_PHRASES[scene.place], rng)

    a = _catalogue_phrase(scene.objects[0])
    if len(scene.objects) == 1:
        return [
            f"illustration : {a} , {place()}",
            f"drawing of {a} , {place()} in the background",
            f"plate showing {a} , {place()}",
            f"{place()} scene with {a}",
            f"illustration : {a}",
        ]
    assert scene.relation is not None
    b = _catalogue_phrase(scene.objects[1])
    where = CATALOGUE_RELATIONS[scene.relation].format(b=b)
    return [
        f"illustration : {a} {where} , {place()}",
        f"plate showing {a} {where} , {place()}",
        f"{place()} scene with {a} {where}",
        f"illustration : {a} {where}",
        f"illustration : {a} with {b} , {place()}",
    ]


SPEAKERS = {"everyday": _everyday, "adventure": _adventure}


def describe(scene: SceneContent, manner: str, rng: random.Random) -> tuple[str, ...]:
    """Five captions of a scene.

    Args:
        scene (`SceneContent`): What is seen.
        manner (`str`): The domain whose way of speaking is used: "everyday" or "adventure".
        rng (`random.Random`): Where the choices come from.
    """
    return tuple(SPEAKERS[manner](scene, rng))


def vocabulary() -> list[str]:
    """Every word that `describe` can say, sorted."""
    from .scene_drawing import COLORS
    from .scenes import DOMAINS

    words: set[str] = set(COLORS) | {"big", "small"} | set(NUMBERS.values()) | {"a", "an"}
    for domain in DOMAINS.values():
        for name in domain.things:
            words |= {name, plural(name)}
            for place in domain.places:
                for relation in (None, *INVERSE):
                    pair = (SceneObject(name, "red"),) * (2 if relation else 1)
                    for count in (1, 2):
                        content = SceneContent(place, (SceneObject(name, "red", count=count), *pair[1:]), relation)
                        for seed in range(6):
                            for text in describe(content, domain.manner, random.Random(seed)):
                                words |= set(text.split())
    for phrases in PLACE_PHRASES.values():
        for phrase in phrases:
            words |= set(phrase.split())
    return sorted(words)
