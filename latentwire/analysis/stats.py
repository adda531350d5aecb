"""Intervals and tests for accuracies, alone and in pairs on the same questions.

An accuracy is a share of questions, in 0 to 1; a difference of accuracies is in -1 to 1.
Two conditions are always compared question by question: most questions have the same outcome
under both, and only the others carry evidence about the difference. The interval of a difference
and tests at a margin are in `noninferiority.py`. docs/statistics.md says which test stands where,
and why.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
ALPHA = 0.05  # of two-sided tests: 1 - CONFIDENCE, so that tests and intervals agree

Outcomes = Mapping[str, float]
"""Example id -> its score: a bool for right or wrong, or a `Score`."""


class Score(float):
    """A score in 0 to 1 of a question that may share a `cluster`, such as a passage, with others;
    "" for one that stands alone."""

    __slots__ = ("cluster",)
    cluster: str

    def __new__(cls, value: float, cluster: str = "") -> "Score":
        score = super().__new__(cls, value)
        score.cluster = cluster
        return score


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
    def differing(self) -> int:
        """Questions that only one of the two got right."""
        return self.only_first + self.only_second

    @property
    def difference(self) -> float:
        """accuracy(first) - accuracy(second) on these questions; NaN without questions."""
        if self.examples == 0:
            return float("nan")
        return (self.only_first - self.only_second) / self.examples


def scored(value: float, cluster: str | None) -> float:
    """A question's score; a plain number where it stands alone."""
    return Score(value, cluster) if cluster else value


def cluster_of(score: float) -> str:
    """What a question shares with others, such as a passage; "" where it stands alone."""
    return str(getattr(score, "cluster", ""))


def clusters(outcomes: Outcomes) -> list[list[str]]:
    """The example ids in groups that are independent of each other, in a fixed order."""
    if _stand_alone(outcomes):
        return [[name] for name in sorted(outcomes)]
    found: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for name in sorted(outcomes):
        shared = cluster_of(outcomes[name])
        found[bool(shared), shared or name].append(name)
    return list(found.values())


def is_plain(outcomes: Outcomes) -> bool:
    """Whether every question is right or wrong, independently of all others."""
    return all(score in (0, 1) for score in outcomes.values()) and (
        _stand_alone(outcomes) or len(clusters(outcomes)) == len(outcomes)
    )


def _stand_alone(outcomes: Outcomes) -> bool:
    """Whether no question has a cluster; plain numbers have none, and are not asked one by one."""
    scores = outcomes.values()
    return Score not in set(map(type, scores)) or not any(map(cluster_of, scores))


def paired_outcomes(first: Outcomes, second: Outcomes) -> PairedOutcomes:
    """Count outcomes over the questions that both conditions have; ids that only one of them has
    are left out. Whether a question is right is all that counts: see `noninferiority.paired`."""
    common = first.keys() & second.keys()
    counts = Counter((bool(first[name]), bool(second[name])) for name in common)
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


def mcnemar_p(outcomes: PairedOutcomes) -> float:
    """Exact two-sided McNemar p-value of "both conditions are equally accurate".

    Under it, each question that only one of the two got right is that of either with
    probability 1/2: a binomial test on those questions (Q. McNemar, Psychometrika 12, 1947).
    1.0 where no question differs.
    """
    return _fair_coin_p(min(outcomes.only_first, outcomes.only_second), outcomes.differing)


@lru_cache(maxsize=4096)  # a table asks for the same few counts again and again
def _fair_coin_p(heads: int, tosses: int) -> float:
    return float(binomtest(heads, tosses, 0.5).pvalue) if tosses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values over a family, in their order.

    An adjusted p-value under alpha rejects; the chance of any wrong rejection in the family is
    then at most alpha, however the tests depend on each other (S. Holm, Scandinavian Journal of
    Statistics 6, 1979). As statsmodels computes it, which collects garbage in each call: a second
    where much is loaded.
    """
    alone = np.asarray(p_values, dtype=float)
    order = np.argsort(alone)
    adjusted = np.empty_like(alone)
    adjusted[order] = np.maximum.accumulate(alone[order] * np.arange(len(alone), 0, -1))
    return [float(p) for p in np.minimum(adjusted, 1)]
