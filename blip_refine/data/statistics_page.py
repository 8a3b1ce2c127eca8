"""The statistics of a data set as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from .. import __version__
from ..records import CaptionRecord
from .rejections import Rejections

MAX_BARS = 40
"""Longest captions are taken together in the last bar."""


def render_statistics_page(
    title: str,
    statistics: Mapping[str, Any],
    rejections: Rejections,
    fingerprint: str,
    pictured: Sequence[CaptionRecord] = (),
    sheet: Image.Image | None = None,
) -> str:
    """An HTML page of what `dataset_statistics` found.

    Args:
        title (`str`): The data set's name.
        statistics (`Mapping[str, Any]`): Its numbers.
        rejections (`Rejections`): What was left out; a few examples of each reason are shown.
        fingerprint (`str`): The data set's fingerprint.
        pictured (`Sequence[CaptionRecord]`, *optional*): The records on the contact sheet, in its order.
        sheet (`PIL.Image.Image`, *optional*): The contact sheet.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("blip_refine.data"), autoescape=True, trim_blocks=True)
    rejected = [(reason, count, rejections.of(reason)[:3]) for reason, count in rejections.counts.items()]
    return environment.get_template("statistics.html").render(
        title=title,
        version=__version__,
        s=statistics,
        lengths=_binned(statistics.get("words_per_caption", {}).get("histogram", [])),
        rejected=rejected,
        rejected_total=len(rejections),
        fingerprint=fingerprint,
        pictured=pictured,
        sheet=_data_uri(sheet) if sheet is not None else None,
    )


def _binned(histogram: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
    short = [(str(value), count) for value, count in histogram if value < MAX_BARS]
    long = sum(count for value, count in histogram if value >= MAX_BARS)
    return [*short, (f"{MAX_BARS} and more", long)] if long else short


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
