"""How far raters agree, and why that is undefined where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import MissingExtraError


class Agreement(NamedTuple):
    """Krippendorff's alpha.

    Args:
        alpha (`float`, *optional*): 1 for perfect agreement, 0 for what chance gives, below 0 for less than that;
            `None` where it is undefined.
        reason (`str`, *optional*): Why it is undefined.
    """

    alpha: float | None
    reason: str | None = None


def agreement(table: np.ndarray, level: Literal["nominal", "ordinal"] = "ordinal") -> Agreement:
    """Krippendorff's alpha (Krippendorff 2018, "Content Analysis", chapter 12).

    It is undefined for a single rater, if no caption was rated by two, and if all ratings are equal: then no
    disagreement is expected by chance, and the formula divides by 0.

    Args:
        table (`np.ndarray` of shape `(raters, units)`): Ratings; NaN where there is none.
        level (`str`, defaults to `"ordinal"`): Level of measurement: "ordinal" or "nominal".

    Returns:
        [`Agreement`]

    Raises:
        MissingExtraError: `krippendorff` is not installed.
    """
    try:
        import krippendorff
    except ImportError as error:
        raise MissingExtraError("krippendorff", "apps", "measure how far raters agree") from error
    given = ~np.isnan(table)
    if given.any(axis=1).sum() < 2:
        return Agreement(None, "one rater")
    shared = table[:, given.sum(axis=0) > 1]
    if shared.size == 0:
        return Agreement(None, "no caption was rated by two raters")
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return Agreement(None, "all ratings are equal")
    return Agreement(float(krippendorff.alpha(reliability_data=shared, level_of_measurement=level)))


def describe_agreement(alpha: Mapping[str, Any], undefined: Mapping[str, Any]) -> str:
    """The agreement in every question, in a line: "fluency 0.61, quality undefined (one rater)".

    Args:
        alpha (`Mapping[str, float | None]`): Question to Krippendorff's alpha.
        undefined (`Mapping[str, str]`): Question to the reason why it is undefined.
    """
    reasons = set(undefined.values())
    if alpha and len(reasons) == 1 and all(value is None for value in alpha.values()):
        return f"undefined ({reasons.pop()})"
    return ", ".join(
        f"{name} undefined ({undefined.get(name, 'no reason is recorded')})"
        if value is None
        else f"{name} {value:.2f}"
        for name, value in alpha.items()
    )
