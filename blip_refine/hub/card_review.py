"""What reviewers marked, for the model card; empty or `None` where nothing was reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..metrics.agreement import describe_agreement
from .facts import RunFolder, is_number
from .markdown import escape, table


def _review(run: RunFolder) -> Mapping[str, Any]:
    review = run.people.get("review")
    return review if isinstance(review, Mapping) else {}


def review_rows(run: RunFolder) -> str | None:
    """How many captions of each system were marked with what."""
    systems = {str(name): row for name, row in (_review(run).get("systems") or {}).items() if isinstance(row, Mapping)}
    marks = list(dict.fromkeys(mark for row in systems.values() for mark in row))
    if not marks:
        return None
    rows = [[escape(mark), *(_rate(row.get(mark)) for row in systems.values())] for mark in marks]
    return table(["captions marked", *map(escape, systems)], rows)


def _rate(rate: Any) -> str:
    if not isinstance(rate, Mapping) or not all(is_number(rate.get(key)) for key in ("share", "low", "high")):
        return ""
    text = f"{100 * rate['share']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
    return f"{rate['marked']} of {rate['captions']}: {text}" if is_number(rate.get("captions")) else text


def review_note(run: RunFolder) -> str | None:
    """How much was reviewed and by how many, what the shares are over, and how far reviewers agree."""
    review = _review(run)
    if not review.get("systems"):
        return None
    excluded = review.get("excluded") or ()
    raters = sum(one.get("rater") not in excluded for one in review.get("raters") or ())
    parts = [
        f"{review[key]:,} {label}"
        for key, label in (("reviews", "reviews of captions"), ("images", "images"))
        if is_number(review.get(key))
    ]
    if raters:
        parts.append(f"{raters} reviewer{'' if raters == 1 else 's'}")
    text = ", ".join(parts) + "; a caption counts if at least half of its reviewers marked it. In brackets: 95 % "
    text += "interval of the share (Wilson)."
    alpha = {
        str(name): value for name, value in (review.get("alpha") or {}).items() if value is None or is_number(value)
    }
    agreed = describe_agreement(alpha, review.get("alpha_undefined") or {})
    return text + (f" Agreement between reviewers (Krippendorff's alpha): {escape(agreed)}." if agreed else "")
