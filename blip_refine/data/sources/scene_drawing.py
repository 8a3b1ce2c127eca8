"""How the things and the places of the drawn scenes look: plain Pillow shapes, no assets.

A thing is drawn by a function `draw(pen, x, y, s, fill)`: centre `(x, y)` and half-height `s` in pixels of the canvas,
`fill` its colour. A place is drawn by `draw(pen, size, horizon, rng)` over the whole canvas.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import ImageDraw

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (215, 40, 40),
    "blue": (40, 95, 215),
    "green": (45, 150, 55),
    "yellow": (245, 210, 40),
    "purple": (130, 60, 175),
    "orange": (245, 130, 25),
    "white": (248, 248, 248),
    "black": (28, 28, 28),
}


class Pen:
    """A drawing context that outlines every shape, so that a thing is seen on ground of its own colour.

    Args:
        draw (`ImageDraw.ImageDraw`): What is drawn on.
        outline (`tuple[int, int, int]`): The line around shapes: dark by day, light by night.
        width (`int`): Its width in pixels of the canvas.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, outline: RGB = (15, 15, 15), width: int = 2):
        self.draw, self.outline, self.width = draw, outline, width

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self.draw.rectangle([x0, y0, x1, y1], fill=fill, outline=self.outline, width=self.width)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self.draw.ellipse([x0, y0, x1, y1], fill=fill, outline=self.outline, width=self.width)

    def shape(self, points: list[tuple[float, float]], fill: RGB) -> None:
        self.draw.polygon(points, fill=fill)
        self.draw.line([*points, points[0]], fill=self.outline, width=self.width, joint="curve")

    def line(self, points: list[tuple[float, float]], fill: RGB | None = None, width: float = 2) -> None:
        self.draw.line(points, fill=fill or self.outline, width=max(1, round(width)))


WOOD, GLASS, STEEL, DARK = (112, 72, 38), (190, 225, 245), (150, 155, 165), (25, 25, 25)


def ball(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.oval(x - s, y - s, x + s, y + s, fill)
    pen.draw.arc([x - s * 0.6, y - s, x + s * 0.6, y + s], 0, 360, fill=pen.outline, width=pen.width)


def box(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.box(x - s, y - s * 0.8, x + s, y + s * 0.9, fill)
    pen.line([(x - s, y - s * 0.25), (x + s, y - s * 0.25)], width=pen.width)
    pen.line([(x, y - s * 0.8), (x, y - s * 0.25)], width=pen.width)


def house(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.box(x - s, y - s * 0.1, x + s, y + s, fill)
    pen.shape([(x - s * 1.2, y - s * 0.1), (x, y - s), (x + s * 1.2, y - s * 0.1)], WOOD)
    pen.box(x - s * 0.2, y + s * 0.35, x + s * 0.2, y + s, WOOD)
    pen.box(x + s * 0.4, y + s * 0.15, x + s * 0.8, y + s * 0.5, GLASS)


def star(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    radii = [(s if i % 2 == 0 else s * 0.45, i * math.pi / 5) for i in range(10)]
    pen.shape([(x + r * math.sin(a), y - r * math.cos(a)) for r, a in radii], fill)


def car(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.shape([(x - s * 0.8, y), (x - s * 0.45, y - s * 0.7), (x + s * 0.45, y - s * 0.7), (x + s * 0.8, y)], GLASS)
    pen.box(x - s * 1.25, y - s * 0.1, x + s * 1.25, y + s * 0.6, fill)
    for wheel in (x - s * 0.75, x + s * 0.75):
        pen.oval(wheel - s * 0.32, y + s * 0.36, wheel + s * 0.32, y + s, DARK)


def boat(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    hull = [(x - s * 1.2, y + s * 0.3), (x + s * 1.2, y + s * 0.3), (x + s * 0.7, y + s), (x - s * 0.7, y + s)]
    pen.line([(x, y + s * 0.3), (x, y - s)], WOOD, s * 0.12)
    pen.shape([(x + s * 0.05, y - s), (x + s * 0.05, y + s * 0.15), (x + s * 0.85, y + s * 0.15)], (245, 240, 225))
    pen.shape(hull, fill)


def fish(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.shape([(x + s * 0.5, y), (x + s * 1.15, y - s * 0.6), (x + s * 1.15, y + s * 0.6)], fill)
    pen.oval(x - s * 1.1, y - s * 0.65, x + s * 0.7, y + s * 0.65, fill)
    pen.oval(x - s * 0.8, y - s * 0.3, x - s * 0.5, y, (250, 250, 250))


def tree(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.box(x - s * 0.16, y + s * 0.1, x + s * 0.16, y + s, WOOD)
    for dx, dy in ((-0.4, -0.1), (0.4, -0.1), (0, -0.5)):
        pen.oval(x + s * (dx - 0.5), y + s * (dy - 0.5), x + s * (dx + 0.5), y + s * (dy + 0.5), fill)


def flower(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.line([(x, y), (x, y + s)], (30, 110, 40), s * 0.14)
    for i in range(5):
        cx, cy = x + s * 0.42 * math.sin(i * 2 * math.pi / 5), y - s * 0.4 - s * 0.42 * math.cos(i * 2 * math.pi / 5)
        pen.oval(cx - s * 0.3, cy - s * 0.3, cx + s * 0.3, cy + s * 0.3, fill)
    pen.oval(x - s * 0.2, y - s * 0.6, x + s * 0.2, y - s * 0.2, (230, 170, 60))


def kite(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.shape([(x, y - s), (x + s * 0.7, y - s * 0.2), (x, y + s * 0.6), (x - s * 0.7, y - s * 0.2)], fill)
    pen.line([(x, y - s), (x, y + s * 0.6)], width=pen.width)
    pen.line([(x - s * 0.7, y - s * 0.2), (x + s * 0.7, y - s * 0.2)], width=pen.width)
    tail = [(0, 0.6), (0.25, 0.75), (0.0, 0.9), (0.25, 1.1)]
    pen.line([(x + s * dx, y + s * dy) for dx, dy in tail], width=pen.width)


def umbrella(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.line([(x, y - s * 0.2), (x, y + s * 0.8), (x + s * 0.3, y + s * 0.9)], WOOD, s * 0.12)
    pen.draw.pieslice([x - s * 1.1, y - s, x + s * 1.1, y + s], 180, 360, fill, pen.outline, pen.width)
    for dx in (-0.4, 0.4):
        pen.line([(x, y - s), (x + s * dx, y)], width=pen.width)


def cup(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.draw.arc([x + s * 0.3, y - s * 0.4, x + s * 1.1, y + s * 0.5], 0, 360, fill=pen.outline, width=pen.width * 2)
    pen.shape(
        [(x - s * 0.8, y - s * 0.7), (x + s * 0.8, y - s * 0.7), (x + s * 0.6, y + s), (x - s * 0.6, y + s)], fill
    )
    pen.oval(x - s * 0.8, y - s * 0.95, x + s * 0.8, y - s * 0.45, (225, 220, 210))


def rocket(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.shape([(x - s * 0.25, y + s * 0.6), (x + s * 0.25, y + s * 0.6), (x, y + s * 1.1)], (250, 180, 40))
    for side in (-1, 1):
        pen.shape(
            [(x + side * s * 0.4, y), (x + side * s * 0.85, y + s * 0.75), (x + side * s * 0.4, y + s * 0.6)], fill
        )
    pen.shape([(x - s * 0.42, y - s * 0.3), (x, y - s * 1.1), (x + s * 0.42, y - s * 0.3)], STEEL)
    pen.box(x - s * 0.42, y - s * 0.3, x + s * 0.42, y + s * 0.65, fill)
    pen.oval(x - s * 0.2, y - s * 0.1, x + s * 0.2, y + s * 0.3, GLASS)


def robot(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    for side in (-1, 1):
        pen.box(x + side * s * 0.3 - s * 0.14, y + s * 0.5, x + side * s * 0.3 + s * 0.14, y + s, STEEL)
        pen.box(x + side * s * 0.75 - s * 0.13, y - s * 0.2, x + side * s * 0.75 + s * 0.13, y + s * 0.4, STEEL)
    pen.box(x - s * 0.6, y - s * 0.3, x + s * 0.6, y + s * 0.55, fill)
    pen.box(x - s * 0.4, y - s * 0.95, x + s * 0.4, y - s * 0.3, fill)
    for side in (-1, 1):
        pen.oval(
            x + side * s * 0.2 - s * 0.12, y - s * 0.75, x + side * s * 0.2 + s * 0.12, y - s * 0.5, (250, 250, 200)
        )


def mushroom(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.box(x - s * 0.3, y - s * 0.1, x + s * 0.3, y + s, (235, 225, 205))
    pen.draw.pieslice([x - s, y - s, x + s, y + s * 0.9], 180, 360, fill, pen.outline, pen.width)
    for dx, dy in ((-0.45, -0.4), (0.4, -0.35), (0, -0.7)):
        pen.oval(x + s * (dx - 0.13), y + s * (dy - 0.13), x + s * (dx + 0.13), y + s * (dy + 0.13), (250, 245, 240))


def cactus(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    for side, top in ((-1, -0.3), (1, -0.55)):
        pen.box(min(x, x + side * s * 0.7), y + s * 0.1, max(x, x + side * s * 0.7), y + s * 0.4, fill)
        pen.box(x + side * s * 0.7 - s * 0.15, y + s * top, x + side * s * 0.7 + s * 0.15, y + s * 0.4, fill)
    pen.box(x - s * 0.28, y - s, x + s * 0.28, y + s, fill)


def lamp(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.line([(x, y), (x, y + s * 0.85)], STEEL, s * 0.14)
    pen.box(x - s * 0.5, y + s * 0.82, x + s * 0.5, y + s, STEEL)
    pen.shape([(x - s * 0.4, y - s), (x + s * 0.4, y - s), (x + s * 0.85, y), (x - s * 0.85, y)], fill)


def bird(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.shape([(x + s * 0.6, y + s * 0.1), (x + s * 1.2, y - s * 0.2), (x + s * 1.1, y + s * 0.35)], fill)
    pen.oval(x - s * 0.7, y - s * 0.35, x + s * 0.8, y + s * 0.6, fill)
    pen.oval(x - s * 0.95, y - s * 0.8, x - s * 0.25, y - s * 0.1, fill)
    pen.shape([(x - s * 0.92, y - s * 0.55), (x - s * 1.3, y - s * 0.4), (x - s * 0.92, y - s * 0.3)], (240, 170, 40))
    for dx in (-0.1, 0.2):
        pen.line([(x + s * dx, y + s * 0.6), (x + s * dx, y + s)], width=pen.width)


def snail(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    body = [(x - s * 1.2, y + s * 0.2), (x - s * 0.8, y + s * 0.2), (x - s * 0.6, y + s * 0.7), (x + s * 1.1, y + s)]
    pen.shape([*body, (x - s * 1.0, y + s)], (215, 190, 150))
    pen.oval(x - s * 0.6, y - s * 0.8, x + s * 0.9, y + s * 0.75, fill)
    pen.draw.arc([x - s * 0.25, y - s * 0.45, x + s * 0.55, y + s * 0.4], 0, 300, fill=pen.outline, width=pen.width)
    pen.line([(x - s * 1.05, y + s * 0.2), (x - s * 1.2, y - s * 0.25)], width=pen.width)


def tent(pen: Pen, x: float, y: float, s: float, fill: RGB) -> None:
    pen.shape([(x - s * 1.2, y + s), (x, y - s * 0.9), (x + s * 1.2, y + s)], fill)
    pen.shape([(x - s * 0.4, y + s), (x, y - s * 0.2), (x + s * 0.4, y + s)], DARK)


ThingDrawing = Callable[[Pen, float, float, float, RGB], None]
PlaceDrawing = Callable[[ImageDraw.ImageDraw, int, int, random.Random], None]


def shade(color: RGB, rng: random.Random, by: int = 12) -> RGB:
    """The colour a little lighter, darker or off, as no two red things are the same red."""
    red, green, blue = (max(0, min(255, channel + rng.randint(-by, by))) for channel in color)
    return red, green, blue


def _ground(draw: ImageDraw.ImageDraw, size: int, horizon: int, sky: RGB, ground: RGB, rng: random.Random) -> None:
    draw.rectangle([0, 0, size, horizon], fill=shade(sky, rng, 8))
    draw.rectangle([0, horizon, size, size], fill=shade(ground, rng, 8))


def _dots(draw, size: int, top: int, bottom: int, fill: RGB, count: int, radius: int, rng: random.Random) -> None:
    for _ in range(count):
        x, y = rng.randint(0, size), rng.randint(top, bottom)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def beach(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (150, 210, 245), (236, 214, 155), rng)
    draw.rectangle([0, horizon - size // 8, size, horizon], fill=shade((45, 130, 190), rng, 8))


def grass(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (165, 215, 245), (115, 185, 85), rng)
    for _ in range(14):
        x, y = rng.randint(0, size), rng.randint(horizon + 4, size)
        draw.line([x, y, x + rng.randint(-3, 3), y - size // 24], fill=(70, 140, 50), width=2)


def snow(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (185, 205, 222), (238, 243, 250), rng)
    _dots(draw, size, 0, size, (255, 255, 255), 30, max(1, size // 80), rng)


def night(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (18, 22, 66), (38, 46, 44), rng)
    _dots(draw, size, 0, horizon, (240, 240, 210), 16, 1, rng)
    x = rng.choice((size // 12, size * 10 // 12))
    draw.ellipse([x, size // 20, x + size // 10, size // 20 + size // 10], fill=(240, 235, 205))


def room(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (228, 208, 186), (160, 118, 84), rng)
    for y in range(horizon, size, size // 10):
        draw.line([0, y, size, y], fill=(130, 92, 62), width=2)
    x = rng.choice((size // 14, size * 11 // 14))
    draw.rectangle([x, size // 12, x + size // 7, size // 12 + size // 6], fill=(175, 215, 240), outline=(120, 80, 50))


def desert(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (250, 205, 140), (225, 165, 90), rng)
    peak = rng.randint(size // 4, size * 3 // 4)
    dune = [(peak - size // 2, horizon), (peak, horizon - size // 7), (peak + size // 2, horizon)]
    draw.polygon(dune, fill=shade((205, 140, 75), rng, 8))


def seabed(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (35, 120, 165), (60, 95, 110), rng)
    for _ in range(12):
        x, y, r = rng.randint(0, size), rng.randint(0, horizon), rng.randint(2, size // 40 + 2)
        draw.ellipse([x - r, y - r, x + r, y + r], outline=(190, 230, 245), width=1)


def moon(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (8, 8, 14), (168, 168, 172), rng)
    _dots(draw, size, 0, horizon, (255, 255, 255), 14, 1, rng)
    for _ in range(5):
        x, y, r = rng.randint(0, size), rng.randint(horizon + 6, size), rng.randint(size // 30, size // 14)
        draw.ellipse([x - r, y - r // 2, x + r, y + r // 2], fill=(130, 130, 136))


def city(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (190, 200, 210), (95, 95, 100), rng)
    x = -rng.randint(0, size // 10)
    while x < size:
        width, height = rng.randint(size // 10, size // 6), rng.randint(size // 6, size // 3)
        draw.rectangle([x, horizon - height, x + width, horizon], fill=shade((130, 125, 135), rng, 18))
        x += width
    for x in range(0, size, size // 5):
        draw.rectangle([x, size * 9 // 10, x + size // 10, size * 9 // 10 + 3], fill=(235, 235, 220))


def forest(draw, size: int, horizon: int, rng: random.Random) -> None:
    _ground(draw, size, horizon, (150, 185, 165), (85, 100, 60), rng)
    for x in range(0, size + 1, size // 9):
        top = horizon - rng.randint(size // 5, size // 3)
        draw.polygon([(x - size // 12, horizon), (x, top), (x + size // 12, horizon)], fill=shade((35, 80, 55), rng))
