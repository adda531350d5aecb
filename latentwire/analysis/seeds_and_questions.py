"""Trainings of several seeds that answered the same questions: what is said of other seeds and of
other questions at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import t

from latentwire.analysis.paired_scores import Paired, PairedScores, compare
from latentwire.analysis.stats import ALPHA, Interval, Outcomes, cluster_of, clusters, scored


class MeanOverSeeds:
    """The mean of a difference over seeds and questions, both being samples.

    Its variance is that of the seeds' means plus that of the questions' means (those of a passage
    being one), with Satterthwaite's degrees of freedom: min F' of H. Clark, Journal of Verbal
    Learning and Verbal Behavior 12 (1973). It counts what is in neither twice, so it is
    conservative (A. Owen, Annals of Applied Statistics 1, 2007). To the questions of each seed one
    is added at each end, as everywhere: equal answers leave a width.
    """

    def __init__(self, by_seed: Sequence[Outcomes]) -> None:
        names = [*by_seed[0]]
        values = np.array([[float(one[name]) for name in names] for one in by_seed])
        members = clusters(by_seed[0])
        seeds, questions = values.shape[0], values.shape[1] + 2
        self._observed = float(values.mean())
        self._mean = float(values.sum()) / (seeds * questions)
        of_seeds = values.sum(axis=1) / questions
        place = {name: n for n, name in enumerate(names)}
        away = values.mean(axis=0) - self._mean
        sums = [away[[place[name] for name in cluster]].sum() for cluster in members]
        sums += [1 - self._mean, -1 - self._mean]
        of_all = len(sums) / (len(sums) - 1) * float(np.square(sums).sum()) / questions**2
        between = float(of_seeds.var(ddof=1)) / seeds
        self._error = math.sqrt(between + of_all)
        # Standard error over questions alone: what more of them make smaller.
        self.deviation = math.sqrt(of_all)
        parts = between**2 / (seeds - 1) + of_all**2 / (len(sums) - 1)
        self._freedom = (between + of_all) ** 2 / parts

    def p(self, bound: float) -> float:
        """Two-sided p-value of "the true mean is `bound`"."""
        return float(2 * t.sf(abs(self._mean - bound) / self._error, self._freedom))

    def interval(self) -> Interval:
        """The means that `p` does not reject at 5 %."""
        reach = float(t.isf(ALPHA / 2, self._freedom)) * self._error
        low, high = max(-1.0, self._mean - reach), min(1.0, self._mean + reach)
        return Interval(min(low, self._observed), max(high, self._observed))


@dataclass(frozen=True)
class PairedSeeds(PairedScores):
    """The differences of two trainings, each the mean over seeds. One test gives all p-values and
    the interval."""

    by_seed: Sequence[Outcomes] = ()

    @cached_property
    def resampled(self) -> MeanOverSeeds:  # type: ignore[override]
        """Over other seeds and other questions."""
        return MeanOverSeeds(self.by_seed)

    @cached_property
    def equal_p(self) -> float:
        """p-value of "both score alike"."""
        return self.resampled.p(0)

    def interval(self) -> Interval:
        """The differences that are not rejected at 5 %."""
        return self.resampled.interval()


def compare_seeds(first: Sequence[Outcomes], second: Sequence[Outcomes]) -> Paired:
    """Two ways to train, seed by seed in the same order, over the questions that all answered; with
    one seed, `compare`, which knows nothing of other trainings."""
    common = set.intersection(*(set(each) for each in (*first, *second)))
    pairs = [
        [{name: side[name] for name in sorted(common)} for side in sides]
        for sides in zip(first, second, strict=True)
    ]
    if len(pairs) == 1 or not common:
        return compare(*pairs[0])
    by_seed = [
        {name: scored(float(a[name]) - float(b[name]), cluster_of(a[name])) for name in a}
        for a, b in pairs
    ]
    means = {
        name: scored(sum(float(one[name]) for one in by_seed) / len(by_seed), cluster_of(score))
        for name, score in by_seed[0].items()
    }
    return PairedSeeds(means, by_seed=by_seed)
