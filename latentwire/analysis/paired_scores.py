"""Two conditions on the same questions, where scores lie between 0 and 1 or questions share a
passage: resampled, for the counts of right and wrong answers say too little there."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentwire.analysis.bootstrap import ResampledMean, cluster_sums, sign_flip_p
from latentwire.analysis.stats import (
    ALPHA,
    Interval,
    Outcomes,
    PairedOutcomes,
    Score,
    is_plain,
    paired_outcomes,
)


@dataclass(frozen=True)
class PairedScores:
    """The differences of scores, first - second, of the questions that both conditions have."""

    differences: Outcomes

    @property
    def examples(self) -> int:
        """Questions that both conditions answered."""
        return len(self.differences)

    @property
    def only_first(self) -> int:
        """Questions to which the first condition gave the better answer."""
        return sum(difference > 0 for difference in self.differences.values())

    @property
    def only_second(self) -> int:
        """Questions to which the second did."""
        return sum(difference < 0 for difference in self.differences.values())

    @property
    def differing(self) -> int:
        """Questions with two scores."""
        return self.only_first + self.only_second

    @property
    def difference(self) -> float:
        """Mean score of the first - mean score of the second."""
        return float(np.mean(list(self.differences.values())))

    @cached_property
    def resampled(self) -> ResampledMean:
        """The difference over resamples, with a question added that each side alone gets right."""
        return ResampledMean(self.differences, added=(1, -1))

    @cached_property
    def equal_p(self) -> float:
        """p-value of "both score alike": of the permutation test over the questions (those of a
        passage together), or of the resamples where these reject less."""
        sums, _ = cluster_sums(self.differences)
        return max(sign_flip_p(sums), self.resampled.p(0))

    def interval(self) -> Interval:
        """The differences that the resamples do not reject at 5 %, and 0 where the other test does
        not."""
        low, high = self.resampled.interval()
        if self.equal_p >= ALPHA:
            low, high = min(low, 0.0), max(high, 0.0)
        return Interval(low, high)


Paired = PairedOutcomes | PairedScores


def compare(first: Outcomes, second: Outcomes) -> Paired:
    """Two conditions' scores of the questions that both have, in the form that tests take: counted
    where each is right or wrong by itself, else resampled."""
    common = first.keys() & second.keys()
    one, other = ({name: scores[name] for name in common} for scores in (first, second))
    if is_plain(one) and is_plain(other):
        return paired_outcomes(one, other)
    differences = {
        name: Score(float(one[name]) - float(other[name]), getattr(one[name], "cluster", ""))
        for name in common
    }
    return PairedScores(differences)
