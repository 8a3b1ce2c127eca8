"""Drawn scenes: captioned pictures without a download, with the truth about what is in them.

Every scene is drawn from its own seed (dataset seed, domain, split, number), so a scene is the same whichever others
are drawn, in whatever order, and more scenes can be added without changing one that is there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ...errors import ConfigurationError
from ...records import CaptionRecord, SceneObject
from . import scene_drawing as drawing
from .scene_captions import PLACE_PHRASES, SceneContent, describe

SPLIT_SIZES = {"train": 1200, "validation": 60, "test": 100}
"""Scenes a split where `count` is not given: enough to fine-tune the starter on a laptop in two minutes."""

KINDS = {"single": 0.3, "group": 0.2, "pair": 0.35, "group and single": 0.15}
"""How often a scene shows one thing, several of a kind, two things, or several and one."""


@dataclass(frozen=True)
class Domain:
    """A world of scenes.

    Args:
        things (`dict`): Name to drawing function.
        places (`dict`): Name to drawing function.
        manner (`str`): The way of speaking, a key of `scene_captions.SPEAKERS`.
    """

    things: dict[str, drawing.ThingDrawing]
    places: dict[str, drawing.PlaceDrawing]
    manner: str


def _by_name(*functions) -> dict:
    return {function.__name__: function for function in functions}


DOMAINS = {
    "everyday": Domain(
        things=_by_name(
            drawing.ball,
            drawing.boat,
            drawing.box,
            drawing.car,
            drawing.cup,
            drawing.fish,
            drawing.flower,
            drawing.house,
            drawing.kite,
            drawing.star,
            drawing.tree,
            drawing.umbrella,
        ),
        places=_by_name(drawing.beach, drawing.grass, drawing.night, drawing.room, drawing.snow),
        manner="everyday",
    ),
    "adventure": Domain(
        things=_by_name(
            drawing.bird,
            drawing.cactus,
            drawing.lamp,
            drawing.mushroom,
            drawing.robot,
            drawing.rocket,
            drawing.snail,
            drawing.tent,
        ),
        places=_by_name(drawing.city, drawing.desert, drawing.forest, drawing.moon, drawing.seabed),
        manner="adventure",
    ),
}

DARK_PLACES = ("night", "moon", "seabed")
SUPERSAMPLING = 2


def _choose_content(domain: Domain, kind: str, rng: random.Random) -> SceneContent:
    names = rng.sample(sorted(domain.things), 2)
    colors = rng.sample(sorted(drawing.COLORS), 2)
    place = rng.choice(sorted(domain.places))
    if kind == "single":
        size = rng.choice((None, None, "big", "small"))
        return SceneContent(place, (SceneObject(names[0], colors[0], size),))
    if kind == "group":
        return SceneContent(place, (SceneObject(names[0], colors[0], count=rng.choice((2, 3, 4))),))
    count = rng.choice((2, 3)) if kind == "group and single" else 1
    relation = rng.choice(("left", "right", "above", "below"))
    return SceneContent(
        place, (SceneObject(names[0], colors[0], count=count), SceneObject(names[1], colors[1])), relation
    )


def _positions(content: SceneContent, rng: random.Random) -> list[tuple[SceneObject, float, float, float]]:
    """Where each thing stands: (thing, x, y, half-height), all as shares of the picture's side."""

    def near(value: float, by: float = 0.04) -> float:
        return value + rng.uniform(-by, by)

    def row(thing: SceneObject, x: float, y: float, width: float, half: float):
        step = width / thing.count
        return [
            (thing, near(x - width / 2 + step * (i + 0.5), 0.015), near(y, 0.03), half) for i in range(thing.count)
        ]

    first = content.objects[0]
    if content.relation is None:
        if first.count == 1:
            half = {None: 0.19, "big": 0.33, "small": 0.09}[first.size] * rng.uniform(0.94, 1.06)
            reach = 0.04 if first.size == "big" else 0.18
            return [(first, near(0.5, reach), near(0.57, reach / 2), half)]
        return row(first, 0.5, near(0.6, 0.08), 0.88, {2: 0.155, 3: 0.125, 4: 0.095}[first.count])
    second = content.objects[1]
    half = {1: 0.145, 2: 0.105, 3: 0.08}[first.count]
    if content.relation in ("left", "right"):
        x = 0.28 if content.relation == "left" else 0.72
        y = near(0.6, 0.08)
        width = {1: 0.0, 2: 0.42, 3: 0.48}[first.count]
        others = [(second, near(1 - x), near(y, 0.05), 0.145 * rng.uniform(0.9, 1.05))]
        return row(first, near(x, 0.02), y, width, half) + others
    y = 0.25 if content.relation == "above" else 0.76
    width = {1: 0.0, 2: 0.5, 3: 0.66}[first.count]
    others = [(second, near(0.5, 0.16), near(1.01 - y, 0.03), 0.145 * rng.uniform(0.9, 1.05))]
    return row(first, near(0.5, 0.06), y, width, half) + others


def draw_scene(content: SceneContent, domain: Domain, rng: random.Random, size: int = 96) -> Image.Image:
    """Draw a scene.

    Args:
        content (`SceneContent`): What is to be seen.
        domain (`Domain`): Whose drawings are used.
        rng (`random.Random`): Where shades and positions come from.
        size (`int`, defaults to 96): Width and height of the picture in pixels.

    Returns:
        `PIL.Image.Image`: An RGB picture.
    """
    side = size * SUPERSAMPLING
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    domain.places[content.place](draw, side, int(side * rng.uniform(0.42, 0.54)), rng)
    outline = (215, 215, 215) if content.place in DARK_PLACES else (15, 15, 15)
    pen = drawing.Pen(draw, outline, width=max(1, side // 96))
    fills = {thing.name: drawing.shade(drawing.COLORS[thing.color or "white"], rng) for thing in content.objects}
    for thing, x, y, half in _positions(content, rng):
        domain.things[thing.name](pen, x * side, y * side, half * side, fills[thing.name])
    return image.reduce(SUPERSAMPLING)


def make_scene(domain: str, split: str, number: int, *, seed: int = 0, size: int = 96, kind: str | None = None):
    """One scene as a record: picture, five captions, and the objects that are truly in it.

    Args:
        domain (`str`): "everyday" or "adventure".
        split (`str`): Any name; scenes of different splits are different.
        number (`int`): Which scene of the split.
        seed (`int`, defaults to 0): Of the whole dataset.
        size (`int`, defaults to 96): Width and height in pixels.
        kind (`str`, *optional*): A key of `KINDS`; drawn by their shares where it is not given.

    Returns:
        [`CaptionRecord`]
    """
    world = DOMAINS[domain]
    rng = random.Random(f"{seed}:{domain}:{split}:{number}")
    chosen = rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    content = _choose_content(world, kind or chosen, rng)
    return CaptionRecord(
        image=draw_scene(content, world, rng, size),
        captions=describe(content, world.manner, rng),
        image_id=f"{domain}-{split}-{number:05d}",
        split=split,
        source=f"scenes:{domain}",
        objects=content.objects,
        metadata={
            "place": content.place,
            "relation": content.relation or "none",
            # What may truly be said of the background, which is none of the objects: "in a green field".
            "background": list(PLACE_PHRASES[content.place]),
        },
    )


def load_scenes(
    domain: str = "everyday",
    split: str | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    size: int = 96,
) -> list[CaptionRecord]:
    """Draw a dataset of scenes.

    Args:
        domain (`str`, defaults to `"everyday"`): "everyday" (the starter model knows it) or "adventure" (it does not).
        split (`str`, *optional*): "train", "validation" or "test"; all three where it is not given.
        count (`int`, *optional*): How many scenes a split; defaults to `SPLIT_SIZES`.
        seed (`int`, defaults to 0): The same seed draws the same scenes.
        size (`int`, defaults to 96): Width and height in pixels.

    Raises:
        ConfigurationError: There is no such domain or split, or `count` is negative.
    """
    if domain not in DOMAINS:
        raise ConfigurationError(f"There is no domain of scenes named {domain!r}; there are: {', '.join(DOMAINS)}.")
    if split is not None and split not in SPLIT_SIZES:
        raise ConfigurationError(f"Drawn scenes have no split {split!r}; they have: {', '.join(SPLIT_SIZES)}.")
    if count is not None and count < 0:
        raise ConfigurationError(f"The number of scenes must not be negative; it was {count}.")
    splits = SPLIT_SIZES if split is None else {split: SPLIT_SIZES[split]}
    return [
        make_scene(domain, name, number, seed=seed, size=size)
        for name, standard in splits.items()
        for number in range(standard if count is None else count)
    ]
