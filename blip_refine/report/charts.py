"""Charts of the page as inline SVG: they follow its colours (light, dark, print) and need no script.

Every function returns markup with all text escaped. A chart carries its title and its numbers in words for screen
readers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 14, 40


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    Args:
        name (`str`): Shown in the legend.
        points (`Sequence[tuple[float, float]]`): x and y.
        style (`str`): The CSS class that colours it: "s0", "s1", ...
        whiskers (`Sequence[tuple[float, float]]`): Lower and upper end of each point's interval, where there are any.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "s0"
    whiskers: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with its interval.

    Args:
        name (`str`): What it is the value of.
        value (`float`): The value.
        low (`float`, *optional*): Lower end of its interval.
        high (`float`, *optional*): Upper end of its interval.
        style (`str`): The CSS class that colours it.
        note (`str`): Shown behind the value, for example how many images it stands on.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    style: str = "s0"
    note: str = ""


def number(value: float) -> str:
    """A number as short as it can be read: three significant digits, no trailing zeros."""
    if value == 0:
        return "0"
    if abs(value) >= 1000 or (value == int(value) and abs(value) < 1e6):
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 8)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that cover `low` to `high`, about `wanted` of them."""
    # Equal but for the last bits: sums in another order.
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _frame(body: Iterable[str], title: str, description: str, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    return Markup(
        f'<svg class="{"chart wide" if width == WIDTH else "chart"}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}. {escape(description)}">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "tick") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


class _Axes:
    """Maps data to the drawing, and draws grid, numbers and names of the axes."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str):
        self.x_ticks, self.y_ticks = ticks(min(xs), max(xs), 6), ticks(min(ys), max(ys))
        self.x_range, self.y_range = (min(xs), max(xs)), (self.y_ticks[0], self.y_ticks[-1])
        if self.x_range[0] == self.x_range[1]:
            self.x_range = (self.x_ticks[0], self.x_ticks[-1])
        self.x_name, self.y_name = x_name, y_name

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    def draw(self) -> list[str]:
        body = []
        for tick in self.y_ticks:
            body.append(_rule(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid"))
            body.append(_text(LEFT - 8, self.y(tick) + 4, number(tick), "end"))
        for tick in self.x_ticks:
            if self.x_range[0] <= tick <= self.x_range[1]:
                body.append(_text(self.x(tick), HEIGHT - BOTTOM + 18, number(tick)))
        body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, self.x_name, style="axis"))
        return body


def _marker(x: float, y: float, style: str, shape: int, title: str) -> str:
    """A mark whose form, not only its colour, says which series it belongs to."""
    label = f"<title>{escape(title)}</title>"
    if shape % 3 == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" class="dot {style}">{label}</rect>'
    if shape % 3 == 2:
        points = f"{x:.1f},{y - 5.5:.1f} {x + 5.5:.1f},{y + 4.5:.1f} {x - 5.5:.1f},{y + 4.5:.1f}"
        return f'<polygon points="{points}" class="dot {style}">{label}</polygon>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="dot {style}">{label}</circle>'


def line_chart(series: Sequence[Series], x_name: str, y_name: str, title: str) -> Markup:
    """Curves over a common x axis, with a mark at every point where there are few."""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    ys += [end for line in series for ends in line.whiskers for end in ends]
    axes = _Axes(xs, ys, x_name, y_name)
    body, told = axes.draw(), []
    for shape, line in enumerate(series):
        points = sorted(line.points)
        path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
        body.append(f'<polyline points="{path}" class="line {escape(line.style)}"/>')
        for (x, _), (low, high) in zip(line.points, line.whiskers, strict=False):
            body.append(_rule(axes.x(x), axes.y(low), axes.x(x), axes.y(high), f"whisker {escape(line.style)}"))
        if len(points) <= 12:
            for x, y in points:
                label = f"{line.name}: {number(y)} at {x_name} {number(x)}"
                body.append(_marker(axes.x(x), axes.y(y), str(escape(line.style)), shape, label))
        (_, first), (last_x, last) = points[0], points[-1]
        told.append(f"{line.name} goes from {number(first)} to {number(last)} at {x_name} {number(last_x)}.")
    return _frame(body, title, " ".join(told))


def interval_chart(bars: Sequence[Bar], title: str, digits: int = 3, zero: bool = False) -> Markup:
    """A row a value: its mark, its interval as a line through it, its number behind it.

    Args:
        bars (`Sequence[Bar]`): From top to bottom.
        title (`str`): What is shown.
        digits (`int`, defaults to 3): Decimals of the numbers.
        zero (`bool`, defaults to `False`): Begin the scale at zero, with a bar from there, and mark it.
    """
    names = [bar.name if len(bar.name) <= 22 else bar.name[:21] + "…" for bar in bars]
    values = [f"{bar.value:.{digits}f} {bar.note}".strip() for bar in bars]
    # As wide as the longest text needs, at about 6.6 units a letter; the marks get the rest.
    left = min(22 + 6.8 * max(len(name) for name in names), 172)
    right = min(22 + 6.6 * max(len(value) for value in values), 110)
    row, width = 30, 400
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    if zero:
        ends.append(0.0)
    scale = ticks(min(ends), max(ends), 4)
    low, high = scale[0], scale[-1]
    height = row * len(bars) + 30

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    body, told = [], []
    for tick in scale:
        body.append(_rule(place(tick), 4, place(tick), height - 24, "grid"))
        body.append(_text(place(tick), height - 8, number(tick)))
    if zero:
        body.append(_rule(place(0), 4, place(0), height - 24, "zero"))
    for shape, bar in enumerate(bars):
        middle, style = row * shape + row / 2 + 4, str(escape(bar.style))
        said = f"{bar.name}: {bar.value:.{digits}f}"
        body.append(_text(left - 10, middle + 4, names[shape], "end", "label"))
        if zero:
            start, extent = min(place(0), place(bar.value)), abs(place(bar.value) - place(0))
            body.append(
                f'<rect x="{start:.1f}" y="{middle - 8:.1f}" width="{extent:.1f}" height="16" rx="2" '
                f'class="bar {style}"><title>{escape(said)}</title></rect>'
            )
        if bar.low is not None and bar.high is not None:
            body.append(_rule(place(bar.low), middle, place(bar.high), middle, f"whisker {style}"))
            for end in (bar.low, bar.high):
                body.append(_rule(place(end), middle - 5, place(end), middle + 5, f"whisker {style}"))
            said += f" ({bar.low:.{digits}f} to {bar.high:.{digits}f})"
        if not zero:
            body.append(_marker(place(bar.value), middle, style, shape, said))
        body.append(_text(width - right + 12, middle + 4, values[shape], "start", "label"))
        told.append(said + ".")
    return _frame(body, title, " ".join(told), width, height)


def scatter(points: Sequence[tuple[str, float, float, bool]], x_name: str, y_name: str, title: str) -> Markup:
    """Points with their names; those on the Pareto front are filled and joined.

    Args:
        points (`Sequence[tuple[str, float, float, bool]]`): Name, x (less is better), y (more is better), and whether
            it is on the front.
        x_name (`str`): What x is.
        y_name (`str`): What y is.
        title (`str`): What is shown.
    """
    axes = _Axes([0.0, max(x for _, x, _, _ in points) * 1.25 or 1.0], [y for _, _, y, _ in points], x_name, y_name)
    body = axes.draw()
    front = sorted((x, y) for _, x, y, best in points if best)
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in front)
    body.append(f'<polyline points="{path}" class="line s1 dashed"/>')
    for place, (name, x, y, best) in enumerate(points, 1):
        label = f"{place}. {name}: {y_name} {number(y)} at {x_name} {number(x)}"
        body.append(_marker(axes.x(x), axes.y(y), "s1" if best else "s0", 0, label))
        body.append(_text(axes.x(x) + 8, axes.y(y) - 7, str(place), "start", "label"))
    told = " ".join(f"{name}: {number(y)} at {number(x)}." for name, x, y, _ in points)
    return _frame(body, title, told)


def histogram(groups: Sequence[tuple[str, str, Sequence[float]]], x_name: str, title: str, bins: int = 12) -> Markup:
    """Shares of values, groups side by side.

    Args:
        groups (`Sequence[tuple[str, str, Sequence[float]]]`): Name, CSS class and values of each group.
        x_name (`str`): What the values are.
        title (`str`): What is shown.
        bins (`int`, defaults to 12): At most about so many; whole numbers get whole bins.
    """
    values = [value for _, _, group in groups for value in group]
    low, high = min(values), max(values)
    if all(value == int(value) for value in values):
        width = max(1, math.ceil((high - low + 1) / (2 * bins)))
        edges = [low - 0.5 + width * place for place in range(int((high - low) // width) + 2)]
    else:
        edges = ticks(low, high, bins)
    shares = []
    for _, _, group in groups:
        counts = [0] * (len(edges) - 1)
        for value in group:
            place = min(int((value - edges[0]) / (edges[1] - edges[0])), len(counts) - 1)
            counts[place] += 1
        shares.append([100 * held / max(len(group), 1) for held in counts])
    axes = _Axes(
        [edges[0], edges[-1]], [0.0, max(max(share) for share in shares) or 1.0], x_name, "share of captions (%)"
    )
    body, told = axes.draw(), []
    slot = (axes.x(edges[1]) - axes.x(edges[0])) * 0.84 / len(groups)
    for place, (name, style, group) in enumerate(groups):
        for index, share in enumerate(shares[place]):
            if not share:
                continue
            x = axes.x(edges[index]) + (axes.x(edges[1]) - axes.x(edges[0])) * 0.08 + place * slot
            says = f"{name}: {share:.0f} % between {number(edges[index])} and {number(edges[index + 1])}"
            top, wide = axes.y(share), max(slot - 0.5, 0.5)
            body.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{axes.y(0) - top:.1f}" '
                f'class="bar {escape(style)}"><title>{escape(says)}</title></rect>'
            )
        if group:
            ordered = sorted(group)
            told.append(f"{name}: median {number(ordered[len(ordered) // 2])} of {len(group)} captions.")
    return _frame(body, title, " ".join(told))
