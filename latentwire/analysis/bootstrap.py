"""Resampled questions. A question comes with its outcomes under every condition, so conditions that
were asked the same questions are compared on the same resampled ones."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 20_260_201
BLOCK = 500  # resamples at once: bounds the memory


def draws(questions: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each question was drawn, with replacement and as many as there are: float32 [up to
    BLOCK resamples, questions] at a time; sums of it are exact."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = generator.integers(questions, size=(rows, questions))
        drawn += questions * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions)
        yield counts.reshape(rows, questions).astype(np.float32)
