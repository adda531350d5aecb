"""Intervals and tests for accuracies, alone and in pairs on the same questions.

An accuracy is a share of questions, in 0 to 1; a difference of accuracies is in -1 to 1.
Two conditions are always compared question by question: most questions have the same outcome
under both, and only the others carry evidence about the difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

RESAMPLES = 10_000
SEED = 20_260_201
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A two-sided interval, in the unit of what it is an interval of."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedOutcomes:
    """How many questions had each of the four outcomes that a pair of conditions can have."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def examples(self) -> int:
        """Questions that both conditions answered."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """accuracy(first) - accuracy(second) on these questions; NaN without questions."""
        if self.examples == 0:
            return float("nan")
        return (self.only_first - self.only_second) / self.examples


def paired_outcomes(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedOutcomes:
    """Count outcomes over the questions that both conditions have.

    Args:
        first: example id -> whether the first condition answered it correctly.
        second: the same of the second condition; ids that only one of them has are left out.
    """
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for example_id in first.keys() & second.keys():
        counts[bool(first[example_id]), bool(second[example_id])] += 1
    return PairedOutcomes(
        both=counts[True, True],
        only_first=counts[True, False],
        only_second=counts[False, True],
        neither=counts[False, False],
    )


def wilson_interval(correct: int, examples: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of an accuracy; NaN, NaN without examples.

    With p = correct/n and z the normal quantile of the confidence:
    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), which stays inside 0 to 1 and has a
    width even at p = 0 and p = 1 (E. B. Wilson, JASA 22, 1927; computed by statsmodels).

    Raises:
        ValueError: not 0 <= correct <= examples.
    """
    if not 0 <= correct <= examples:
        raise ValueError(f"{correct} correct of {examples} examples is impossible")
    if examples == 0:
        return Interval(float("nan"), float("nan"))
    low, high = proportion_confint(correct, examples, alpha=1 - confidence, method="wilson")
    return Interval(float(low), float(high))


def paired_bootstrap_interval(
    outcomes: PairedOutcomes,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of accuracy(first) - accuracy(second), questions resampled in pairs.

    A question's difference is +1, 0 or -1, so drawing n questions with replacement is drawing
    how often each of the three occurs from a multinomial with the observed shares: the same
    distribution as resampling the questions themselves, without the loop over them
    (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).

    Where no question differs the interval has no width: the resamples then know of no other
    outcome. Read it together with the number of questions.

    Args:
        outcomes: the pair's outcomes.
        resamples: how many times to draw.
        seed: of the draws; the same outcomes and seed give the same interval.
        confidence: share of the resampled differences between the ends.

    Returns:
        The interval; NaN, NaN without questions.
    """
    n = outcomes.examples
    if n == 0:
        return Interval(float("nan"), float("nan"))
    same = outcomes.both + outcomes.neither
    shares = np.array([outcomes.only_first, outcomes.only_second, same], dtype=np.float64) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    differences = (draws[:, 0] - draws[:, 1]) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Interval(float(low), float(high))


def mcnemar_p(outcomes: PairedOutcomes) -> float:
    """Exact two-sided McNemar p-value of "both conditions are equally accurate".

    Under it, each question that only one of the two got right is that of either with
    probability 1/2: a binomial test on those questions (Q. McNemar, Psychometrika 12, 1947).
    1.0 where no question differs.
    """
    differing = outcomes.only_first + outcomes.only_second
    if differing == 0:
        return 1.0
    return float(binomtest(outcomes.only_first, differing, 0.5).pvalue)
