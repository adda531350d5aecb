"""Resampled questions. A question comes with its outcomes under every condition, so conditions that
were asked the same questions are compared on the same resampled ones. Questions that share a
passage are drawn together."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from latentwire.analysis.stats import ALPHA, Interval, Outcomes, clusters, is_plain, wilson_interval

RESAMPLES = 10_000
FEWER_RESAMPLES = 2_000  # where they give an interval and another test the p-value
SEED = 20_260_201
BLOCK = 500  # resamples at once: bounds the memory
_MOST_KEPT = 15_000_000  # counts of drawn questions, four bytes each
_EXACT = 2**24  # sums of whole numbers below it are exact in float32


def draws(questions: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each question was drawn, with replacement and as many as there are: float32 [up to
    BLOCK resamples, questions] at a time; sums of it are exact."""
    few = questions * resamples <= _MOST_KEPT
    yield from (_kept if few else _drawn)(questions, resamples, seed)


@lru_cache(maxsize=3)  # all conditions of a table are resampled alike
def _kept(questions: int, resamples: int, seed: int) -> list[NDArray[np.float32]]:
    return list(_drawn(questions, resamples, seed))


def _drawn(questions: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = generator.integers(questions, size=(rows, questions))
        drawn += questions * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions)
        yield counts.reshape(rows, questions).astype(np.float32)


def cluster_sums(outcomes: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each cluster of questions: the sum of its scores, and how many questions it has."""
    members = clusters(outcomes)
    sums = [sum(float(outcomes[name]) for name in names) for names in members]
    return np.array(sums, float), np.array([len(names) for names in members], float)


def _totals(counts: NDArray[np.float32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of `values` over each resample."""
    most = np.abs(values).max() * len(values)
    exact = most < _EXACT and bool((values == np.rint(values)).all())
    # Not @, which shares so small a product among all cores: where others use them too, its threads
    # wait for each other ten times as long as they add. And its sums depend on how many there are.
    return np.einsum("rq,q->r", counts, values.astype(np.float32 if exact else float)).astype(float)


class ResampledMean:
    """The mean score of questions over resamples of their clusters (B. Efron and R. Tibshirani, An
    Introduction to the Bootstrap, 1993, 13.3).

    Scores that are all alike would leave an interval without width, as if they proved something:
    to the questions one is `added` at each end of what a score can be (D. Bonett and R. Price,
    Journal of Educational and Behavioral Statistics 37, 2012).
    """

    def __init__(
        self, outcomes: Outcomes, added: Sequence[float], resamples: int = RESAMPLES
    ) -> None:
        sums, sizes = cluster_sums(outcomes)
        sums, sizes = np.append(sums, added), np.append(sizes, np.ones(len(added)))
        blocks = draws(len(sums), resamples, SEED)
        means = [_totals(counts, sums) / _totals(counts, sizes) for counts in blocks]
        self._means = np.sort(np.concatenate(means))

    @property
    def deviation(self) -> float:
        """Standard error of the mean."""
        return float(self._means.std())

    def p(self, bound: float) -> float:
        """Two-sided p-value of "the true mean is `bound`"."""
        below = int(np.searchsorted(self._means, bound, side="right"))
        above = len(self._means) - int(np.searchsorted(self._means, bound, side="left"))
        return min(1.0, 2 * (1 + min(below, above)) / (1 + len(self._means)))

    def interval(self) -> Interval:
        """The means that `p` does not reject at 5 %."""
        return percentile_interval(self._means)


def percentile_interval(drawn: NDArray[np.float64]) -> Interval:
    """The 95 % interval of what was drawn, in rising order."""
    tail = int(np.ceil(ALPHA / 2 * (1 + len(drawn)) - 1)) - 1
    return Interval(float(drawn[tail]), float(drawn[-1 - tail]))


def mean_interval(outcomes: Outcomes) -> Interval:
    """The 95 % interval of a mean score; NaN, NaN without questions."""
    if not outcomes:
        return Interval(float("nan"), float("nan"))
    return ResampledMean(outcomes, added=(0, 1)).interval()


def score_interval(outcomes: Outcomes) -> Interval:
    """The 95 % interval of a mean score: Wilson's where questions are right or wrong and stand
    alone, else as `mean_interval`."""
    if is_plain(outcomes):
        return wilson_interval(sum(map(bool, outcomes.values())), len(outcomes))
    return mean_interval(outcomes)


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of "each difference is as likely to have the other sign" (a permutation
    test; R. A. Fisher, The Design of Experiments, 1935, chapter 3; by SciPy with a fixed seed)."""
    moved = differences[differences != 0]
    if len(moved) < 2:  # of one difference, either sign is as far from 0
        return 1.0
    test = permutation_test(
        (moved,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES - 1,
        batch=BLOCK,
        vectorized=True,
        rng=np.random.default_rng(SEED),
    )
    return float(test.pvalue)
