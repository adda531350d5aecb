"""Bootstrap intervals of differences between conditions, the questions resampled in clusters.

A question is a cluster: with it come its outcomes under every condition. So conditions that were
asked the same questions are compared on the same resampled questions.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from latentwire.analysis.stats import CONFIDENCE, Interval, Outcomes

RESAMPLES = 10_000
SEED = 20_260_201
BLOCK = 500  # resamples at once: bounds the memory


def paired_bootstrap_intervals(
    pairs: Sequence[tuple[Outcomes, Outcomes]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> list[Interval]:
    """Percentile intervals of accuracy(first) - accuracy(second), one a pair of conditions.

    The questions that both of a pair have are drawn with replacement, as many as there are
    (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). Pairs with
    the same questions share the draws; a pair's interval depends on its own questions and the
    seed alone, not on what else is compared. How often a question was drawn times its difference,
    summed, is a matrix product, so a grid costs little more than one pair.

    Where no question differs the interval has no width: the resamples then know of no other
    outcome. Read it together with the number of questions, or see `margins.score_interval`.

    Args:
        pairs: outcomes of the first and of the second condition.
        resamples: how many times to draw.
        seed: of the draws; the same outcomes and seed give the same interval.
        confidence: share of the resampled differences between the ends.

    Returns:
        The intervals in the order of `pairs`; NaN, NaN for a pair without common questions.
    """
    together: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, (first, second) in enumerate(pairs):
        together[tuple(sorted(first.keys() & second.keys()))].append(place)
    intervals = [Interval(float("nan"), float("nan"))] * len(pairs)
    tail = (1 - confidence) / 2
    for questions, places in together.items():
        if not questions:
            continue
        differences = np.array(
            [
                [int(pairs[place][0][name]) - int(pairs[place][1][name]) for place in places]
                for name in questions
            ],
            dtype=np.float32,  # holds sums of whole numbers up to 2^24 exactly
        )
        sums = [counts @ differences for counts in draws(len(questions), resamples, seed)]
        means = np.concatenate(sums).astype(np.float64) / len(questions)
        ends = np.quantile(means, [tail, 1 - tail], axis=0)
        for place, (low, high) in zip(places, ends.T, strict=True):
            intervals[place] = Interval(float(low), float(high))
    return intervals


def draws(questions: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each question was drawn: float32 [up to BLOCK resamples, questions] at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = generator.integers(questions, size=(rows, questions))
        drawn += questions * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions)
        yield counts.reshape(rows, questions).astype(np.float32)
