from __future__ import annotations

import numpy as np
import pytest

from blip_refine.errors import MetricError
from blip_refine.evaluation.claims import check_claim
from blip_refine.metrics.statistics import MetricStatistics


def statistics(values):
    return MetricStatistics.from_mean("CIDEr", [str(place) for place in range(len(values))], np.asarray(values))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "not reached"), (1.22, "reached"), (1.5, "exceeded"), (0.9, "not reached")]
)
def test_a_clear_gain_is_judged(factor, verdict):
    rng = np.random.default_rng(0)
    base = rng.gamma(2.0, 0.4, 500)
    claim = check_claim(statistics(base), statistics(base * factor), (0.20, 0.25), resamples=500)
    # The same factor on every image: the gain is the same in every resample.
    assert claim.gain == pytest.approx(factor - 1) and claim.low == pytest.approx(claim.high)
    assert claim.verdict == verdict
    assert f"measured {100 * (factor - 1):+.1f} %" in claim.sentence() and "+20 to +25 %" in claim.sentence()


def test_few_images_leave_it_undecided():
    rng = np.random.default_rng(1)
    base = rng.gamma(1.0, 0.4, 12)
    claim = check_claim(statistics(base), statistics(base * 1.2 + rng.normal(0, 0.3, 12)), (0.20, 0.25))
    assert claim.low < claim.gain < claim.high and claim.verdict == "undecided"


def test_no_share_of_nothing():
    with pytest.raises(MetricError, match="is 0.000"):
        check_claim(statistics([1e-9, 2e-9]), statistics([1e-6, 1e-6]), (0.2, 0.25))
    with pytest.raises(MetricError, match="baseline's CIDEr is 0.000"):
        check_claim(statistics([0.0, 0.0]), statistics([1.0, 1.0]), (0.2, 0.25))
