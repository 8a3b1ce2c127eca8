"""Flags of metrics, written once for every command that scores."""

from __future__ import annotations

from typing import Annotated

import typer

SpiceImages = Annotated[
    int | None,
    typer.Option(min=1, help="Score SPICE, which is slow, on so many randomly drawn images only. Default: all."),
]


def split_metrics(text: str | None, spice_images: int | None) -> list[str] | None:
    """The names in `--metrics`, checked before anything slow starts; `None` for the default.

    Args:
        text (`str`, *optional*): Names, separated by commas.
        spice_images (`int`, *optional*): What `--spice-images` says.

    Raises:
        ConfigurationError: There is no such metric, or `--spice-images` without SPICE.
    """
    from ..metrics.families import check_spice_images, metric_names

    names = [name.strip() for name in text.split(",") if name.strip()] if text else None
    check_spice_images(metric_names(names), spice_images)
    return names
