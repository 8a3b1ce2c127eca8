"""What `human.json` says of people's reviews, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SourceFormatError


@dataclass(frozen=True, slots=True)
class Review:
    """What people marked, as `blip-refine rate --summary` wrote it.

    Args:
        images (`int`): Images reviewed.
        reviews (`int`): Captions reviewed, over all reviewers.
        marks (`Mapping[str, Mapping[str, Mapping[str, Any]]]`): Mark to system to `marked`, `captions`, `share`, `low`
            and `high`.
        alpha (`Mapping[str, float | None]`): Mark to Krippendorff's alpha; `None` where it is undefined.
        alpha_undefined (`Mapping[str, str]`): Mark to the reason why it is undefined.
        raters (`tuple[Mapping[str, Any], ...]`): How each reviewer worked: `rater`, `anomalies`.
        excluded (`tuple[str, ...]`): Reviewers that were left out.
        notes (`int`): How many notes were written.
    """

    images: int
    reviews: int
    marks: Mapping[str, Mapping[str, Mapping[str, Any]]]
    alpha: Mapping[str, float | None] = field(default_factory=dict)
    alpha_undefined: Mapping[str, str] = field(default_factory=dict)
    raters: tuple[Mapping[str, Any], ...] = ()
    excluded: tuple[str, ...] = ()
    notes: int = 0

    @property
    def systems(self) -> list[str]:
        """The systems whose captions were reviewed."""
        return list(dict.fromkeys(system for systems in self.marks.values() for system in systems))


def read_review(value: Any, path: Path) -> Review | None:
    """The review in `human.json`; `None` if there is none.

    Args:
        value (`Any`): What stands there under `review`.
        path (`Path`): The file, for the error.

    Raises:
        SourceFormatError: It is not of the form that `blip-refine rate --summary` writes.
    """
    if not value:
        return None
    try:
        marks: dict[str, dict[str, dict[str, Any]]] = {}
        for system, rates in value["systems"].items():
            for mark, rate in rates.items():
                row = {key: float(rate[key]) for key in ("share", "low", "high")}
                row |= {key: int(rate[key]) for key in ("marked", "captions")}
                marks.setdefault(str(mark), {})[str(system)] = row
        return Review(
            images=int(value["images"]),
            reviews=int(value["reviews"]),
            marks=marks,
            alpha={str(mark): None if one is None else float(one) for mark, one in value.get("alpha", {}).items()},
            alpha_undefined={str(mark): str(one) for mark, one in value.get("alpha_undefined", {}).items()},
            raters=tuple({"anomalies": (), **rater} for rater in value.get("raters", ())),
            excluded=tuple(str(rater) for rater in value.get("excluded", ())),
            notes=int(value.get("notes", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceFormatError(f"{path}: 'review' is not as `blip-refine rate --summary` writes it.") from error
