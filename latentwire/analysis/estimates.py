"""A number with its 95 % interval and the p-value of the test that the interval is of."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from latentwire.analysis.bootstrap import FEWER_RESAMPLES, ResampledMean
from latentwire.analysis.noninferiority import difference_interval, equal_p
from latentwire.analysis.paired_scores import Paired
from latentwire.analysis.stats import ALPHA, Outcomes

NAN = float("nan")


class Estimate(NamedTuple):
    """p < 0.05 exactly where the interval excludes what is tested."""

    value: float
    low: float
    high: float
    p: float | None  # two-sided, uncorrected; None where nothing was measured

    def columns(self, name: str) -> dict[str, Any]:
        """As columns of the budget curve."""
        ends = {f"{name}_low": self.low, f"{name}_high": self.high}
        return {name: self.value, **ends, f"{name}_p": self.p}


NOTHING = Estimate(NAN, NAN, NAN, None)


def of_difference(outcomes: Paired) -> Estimate:
    """A difference of two conditions; the test is of a difference of 0."""
    if not outcomes.examples:
        return NOTHING
    return Estimate(outcomes.difference, *difference_interval(outcomes), equal_p(outcomes))


def of_share(count: int, whole: int, expected: float) -> Estimate:
    """A share of independent questions, tested against an expected one: exact binomial test, twice
    its smaller tail, and the interval of it (C. Clopper and E. Pearson, Biometrika 26, 1934)."""
    if not whole:
        return NOTHING
    tails = binom.cdf(count, whole, expected), binom.sf(count - 1, whole, expected)
    low, high = proportion_confint(count, whole, alpha=ALPHA, method="beta")
    return Estimate(count / whole, float(low), float(high), float(min(1.0, 2 * min(tails))))


def of_resampled_share(scores: Outcomes, expected: float) -> Estimate:
    """A mean of shares, or of questions that are not independent, tested against an expected one
    by resampling."""
    if not scores:
        return NOTHING
    resampled = ResampledMean(scores, added=(0, 1))
    return Estimate(_mean(scores), *resampled.interval(), resampled.p(expected))


def of_mean(
    scores: Outcomes, end: float, zero_p: float, *, bias: float = 0.0, signed: bool = True
) -> Estimate:
    """A mean over questions that has a test of 0 of its own.

    The interval is the bootstrap's over questions (those of a passage together), and 0 is in it
    where either test does not reject it.

    Args:
        scores: a number for each question.
        end: what a score can be about as far from 0 as; a question is added at each such end, see
            `ResampledMean`.
        zero_p: p-value of "the true mean is 0", by a test that knows it better than the resamples.
        bias: what the mean is too large by; at most the mean is taken off.
        signed: whether the true mean can be below 0.
    """
    if not scores:
        return NOTHING
    mean = _mean(scores)
    bias = min(bias, mean) if bias else 0.0
    value = mean - bias
    resampled = ResampledMean(scores, (-end, end), FEWER_RESAMPLES)
    low, high = (each - bias for each in resampled.interval())
    p = zero_p if low > 0 or high < 0 else max(zero_p, resampled.p(bias))
    if p >= ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    low, high = min(low, value), max(high, value)
    return Estimate(value, low if signed else max(low, 0.0), high, p)


def _mean(scores: Mapping[str, float]) -> float:
    return float(sum(scores.values()) / len(scores))
