"""Two conditions on the same questions, where scores lie between 0 and 1, questions share a passage
or one side is the mean of several donors: resampled, for the counts of right and wrong answers say
too little there."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentwire.analysis.bootstrap import ResampledMean, cluster_sums, sign_flip_p
from latentwire.analysis.randomization import rank_p
from latentwire.analysis.stats import (
    ALPHA,
    Interval,
    Outcomes,
    PairedOutcomes,
    cluster_of,
    clusters,
    is_plain,
    mcnemar_p,
    paired_outcomes,
    scored,
)


@dataclass(frozen=True)
class PairedScores:
    """The differences of scores, first - second, of the questions that both conditions have."""

    differences: Outcomes
    exact_p: float | None = None  # of "both score alike", where a test knows it exactly

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
        """p-value of "both score alike": of the exact test, or of the permutation test over the
        questions (those of a passage together); or of the resamples where these reject less."""
        if self.exact_p is None:
            return max(sign_flip_p(cluster_sums(self.differences)[0]), self.resampled.p(0))
        agreed = self.exact_p >= ALPHA or self.resampled.p(0) < ALPHA
        return self.exact_p if agreed else max(self.exact_p, self.resampled.p(0))

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
        name: scored(float(one[name]) - float(other[name]), cluster_of(one[name]))
        for name in common
    }
    return PairedScores(differences)


def compare_with_donors(own: Outcomes, donors: Sequence[Outcomes]) -> Paired:
    """A condition against the mean over several donors, of the questions that it shares with one
    of them at least. With one donor, `compare`."""
    if len(donors) < 2:
        return compare(own, mean_over_donors(donors))
    found = paired_with_donors(own, donors)
    return found if found.differences else compare({}, {})


def mean_over_donors(donors: Sequence[Outcomes]) -> Outcomes:
    """Of each question the mean score over the donors that it has; of one donor its scores.

    What is not the same condition's own message, such as the receiver alone, is compared with this
    mean (`compare`). Answers to several wrong messages are like each other and not like its own, so
    ranks among them, which take all for exchangeable, would be too sure: a mean difference of 0 is
    tested by its signs.
    """
    if len(donors) < 2:
        return donors[0] if donors else {}
    found: dict[str, list[float]] = defaultdict(list)
    for each in donors:
        for name, score in each.items():
            found[name].append(score)
    return {
        name: scored(sum(map(float, scores)) / len(scores), cluster_of(scores[0]))
        for name, scores in found.items()
    }


def own_rank_p(own: Outcomes, donors: Sequence[Outcomes]) -> float | None:
    """See `rank_p`, of a condition's scores among those with its donors; None without a question
    that has both."""
    compared = compare_with_donors(own, donors)
    if not compared.examples:
        return None
    if isinstance(compared, PairedScores):
        return paired_with_donors(own, donors).exact_p
    return mcnemar_p(compared)


def paired_with_donors(own: Outcomes, donors: Sequence[Outcomes]) -> PairedScores:
    """The difference of each question's own score and the mean of those with its donors, whatever
    the scores are. A difference of 0 is tested by the ranks of the own scores among the others
    (`rank_p`), and by the resamples."""
    lent = {name: [each.get(name) for each in donors] for name in own}
    known = {n: [float(s) for s in scores if s is not None] for n, scores in lent.items()}
    differences = {
        name: scored(float(own[name]) - sum(scores) / len(scores), cluster_of(own[name]))
        for name, scores in known.items()
        if scores
    }
    return PairedScores(differences, rank_p(_rows(own, lent, differences)))


def _rows(
    own: Outcomes, lent: dict[str, list[float | None]], differences: Outcomes
) -> list[list[float]]:
    """Of each cluster the sum of the own scores, then the same with each donor that all of its
    questions have."""
    rows = []
    for names in clusters(differences):
        by_donor = zip(*(lent[name] for name in names), strict=True)
        whole = [sum(map(float, scores)) for scores in by_donor if None not in scores]
        rows.append([sum(float(own[name]) for name in names), *whole])
    return rows
