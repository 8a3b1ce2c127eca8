"""Does a claimed improvement ("+15 to 20 % BLEU") hold on the data given? Said with an interval, and plainly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import MetricError
from ..metrics.statistics import MetricStatistics, bootstrap_scores, paired

LEAST = 0.001
"""A baseline below this scores nothing (BLEU without a match is not exactly 0): no gain is a share of it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed relative gain against what was measured.

    Args:
        metric (`str`): The metric.
        claimed (`tuple[float, float]`): The claimed gain, as shares: (0.15, 0.20) for 15 to 20 %.
        gain (`float`): What was measured: score over baseline score, less 1.
        low (`float`): Lower end of its paired 95 % bootstrap interval.
        high (`float`): Upper end.
        verdict (`str`): "not reached", "reached", "exceeded" or "undecided".
    """

    metric: str
    claimed: tuple[float, float]
    gain: float
    low: float
    high: float
    verdict: str

    def sentence(self) -> str:
        """The claim and the measurement in plain words."""
        least, most = (f"{100 * share:.0f}" for share in self.claimed)
        return (
            f"{self.metric}: claimed +{least} to +{most} %, measured {100 * self.gain:+.1f} % "
            f"(95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f} %): {self.verdict}"
        )


def check_claim(
    baseline: MetricStatistics,
    system: MetricStatistics,
    claimed: tuple[float, float],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Claim:
    """Hold a claimed relative gain against two systems on the same images.

    The gain "exceeds" the claim where its whole interval lies above what was claimed, is "not reached" where its whole
    interval lies below, "reached" where its whole interval lies above the lower end of the claim, and "undecided"
    otherwise: then there are too few images to say.

    Args:
        baseline (`MetricStatistics`): The system that the gain is over.
        system (`MetricStatistics`): The system that is claimed to gain.
        claimed (`tuple[float, float]`): Least and most of the claimed gain, as shares.
        resamples (`int`, defaults to 10000): Bootstrap resamples.
        seed (`int`, defaults to 0): Of these.

    Raises:
        MetricError: The systems were scored on other images, or the baseline scores nothing: no gain is a share of
            that.
    """
    paired(baseline, system)
    if baseline.corpus < LEAST:
        raise MetricError(
            f"The baseline's {baseline.name} is {baseline.corpus:.3f}: no gain over it can be told in per cent."
        )
    # The same seed draws the same images for both.
    below = bootstrap_scores(baseline, resamples, seed)
    above = bootstrap_scores(system, resamples, seed)
    gains = above[below > 0] / below[below > 0] - 1
    low, high = (float(end) for end in np.quantile(gains, [0.025, 0.975]))
    if high < claimed[0]:
        verdict = "not reached"
    elif low > claimed[1]:
        verdict = "exceeded"
    elif low >= claimed[0]:
        verdict = "reached"
    else:
        verdict = "undecided"
    return Claim(baseline.name, claimed, system.corpus / baseline.corpus - 1, low, high, verdict)
