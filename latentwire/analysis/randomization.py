"""Exact and drawn randomization tests: what would have been found, had messages been dealt anew."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import random_table, rankdata

from latentwire.analysis.bootstrap import RESAMPLES, SEED


def rank_p(rows: Iterable[Sequence[float]]) -> float:
    """Exact two-sided p-value of "the first of each row could be any of it".

    Of each question (or passage) a row has the score with the own message, then those with the
    donors' messages. Were the own message one like the others, its rank would be that of any of
    them, whatever scores they have. The test is of the sum of its ranks, equal scores sharing the
    mean of theirs (P. van Elteren, Bulletin of the International Statistical Institute 37, 1960:
    Wilcoxon's test over strata, here of one against K). The distribution is exact, by convolution.
    With scores of 0 and 1 and one donor it is the exact McNemar test. Two-sided: twice the smaller
    tail. 1 without a row that can tell.
    """
    by_length: dict[int, list[Sequence[float]]] = defaultdict(list)
    for row in rows:
        by_length[len(row)].append(row)
    chances, observed = np.ones(1), 0
    for each in by_length.values():
        ranks = np.rint(2 * rankdata(np.array(each, float), axis=1)).astype(int)
        ranks -= ranks.min(axis=1, keepdims=True)
        observed += int(ranks[:, 0].sum())
        for kind, count in zip(*np.unique(np.sort(ranks), axis=0, return_counts=True), strict=True):
            one = np.bincount(kind) / len(kind)
            chances = np.convolve(chances, _power(one, int(count)))
    tails = chances[: observed + 1].sum(), chances[observed:].sum()
    return float(min(1.0, 2 * min(tails)))


def _power(chances: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The distribution of a sum of `count` whole numbers that each have these chances."""
    found = np.ones(1)
    while count:
        if count % 2:
            found = np.convolve(found, chances)
        chances, count = np.convolve(chances, chances), count // 2
    return found


def dealt_anew(table: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Tables that shuffling one of the two columns would leave: [9,999, rows, columns], with the
    sums of `table` (W. M. Patefield, Applied Statistics 30, 1981; by SciPy)."""
    if 1 in table.shape:  # there is one such table, of which SciPy's algorithm gets a cell wrong
        return np.broadcast_to(table, (RESAMPLES - 1, *table.shape))
    drawn = random_table(table.sum(axis=1), table.sum(axis=0))
    return np.asarray(drawn.rvs(size=RESAMPLES - 1, random_state=generator), dtype=np.int64)


def generator() -> np.random.Generator:
    """What tables are drawn with: the same for the same answers."""
    return np.random.default_rng(SEED)


def drawn_p(observed: float, drawn: NDArray[np.float64], *, two_sided: bool) -> float:
    """p-value of what was observed among what was drawn, itself counted as one of them (B. Phipson
    and G. Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010)."""
    near = 1e-9 * max(1.0, abs(observed))  # sums in another order round otherwise
    above = (1 + int((drawn >= observed - near).sum())) / (1 + len(drawn))
    below = (1 + int((drawn <= observed + near).sum())) / (1 + len(drawn))
    return min(1.0, 2 * min(above, below)) if two_sided else above
