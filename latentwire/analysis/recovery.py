"""How much of what a codec costs comes back when the interface is trained through that codec.

Three accuracies of the same questions, by seed of the training: of an interface trained in 16 bits,
with its message in 16 bits (`plain`) and through the codec (`coded`), and of one trained through
the codec, its message through the codec too (`trained`). The codec costs plain - coded; trained -
coded comes back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from latentwire.analysis.bootstrap import sign_flip_p
from latentwire.analysis.stats import CONFIDENCE, Interval, Outcomes, holm


@dataclass(frozen=True)
class SeedOutcomes:
    """What trainings of one seed answered: example id -> whether correctly."""

    plain: Outcomes  # trained in 16 bits, sent in 16 bits
    coded: Outcomes  # trained in 16 bits, sent through the codec
    trained: Outcomes  # trained and sent through the codec


@dataclass(frozen=True)
class Recovery:
    """What one codec cost on one question set, and what came back. Accuracies are shares."""

    dataset: str
    codec: str
    seeds: int
    questions: int
    accuracy_plain: float  # means over seeds
    accuracy_coded: float
    accuracy_trained: float
    recovered_low: float  # 95 % over seeds; NaN for one seed
    recovered_high: float
    p: float  # over questions, two-sided: nothing comes back

    @property
    def cost(self) -> float:
        return self.accuracy_plain - self.accuracy_coded

    @property
    def recovered(self) -> float:
        return self.accuracy_trained - self.accuracy_coded

    @property
    def recovered_share(self) -> float:
        """Of the cost; NaN where the codec costs nothing."""
        return self.recovered / self.cost if self.cost > 0 else math.nan


def recovery(dataset: str, codec: str, by_seed: Sequence[SeedOutcomes]) -> Recovery:
    """Compare trainings over the questions that all of them answered.

    The interval is over seeds, Student's: mean ± t · s / sqrt(n) with n - 1 degrees of freedom. The
    test is over questions: of each, the mean over seeds of trained - coded, whose sign is as likely
    the other one where nothing comes back (a sign-flip permutation test; R. A. Fisher, The Design
    of Experiments, 1935, chapter 3; computed by SciPy with a fixed seed).

    Raises ValueError without a seed, or without a question that all have.
    """
    if not by_seed:
        raise ValueError("no training to compare")
    parts = [part for one in by_seed for part in (one.plain, one.coded, one.trained)]
    common = sorted(set.intersection(*(set(part) for part in parts)))
    if not common:
        raise ValueError("the trainings have no question in common")
    # [seeds, 3, questions]
    correct = np.array(
        [[[p[name] for name in common] for p in (o.plain, o.coded, o.trained)] for o in by_seed],
        dtype=float,
    )
    plain, coded, trained = correct.mean(axis=(0, 2))
    low, high = _over_seeds((correct[:, 2] - correct[:, 1]).mean(axis=1))
    return Recovery(
        dataset,
        codec,
        len(by_seed),
        len(common),
        float(plain),
        float(coded),
        float(trained),
        low,
        high,
        sign_flip_p((correct[:, 2] - correct[:, 1]).mean(axis=0)),
    )


def recovery_table(found: Sequence[Recovery]) -> pd.DataFrame:
    """A row a codec and question set. Accuracies are shares, costs percentage points; `p_holm` is
    corrected over all rows."""
    adjusted = holm([one.p for one in found])
    rows = [
        {
            **vars(one),
            "cost_points": 100 * one.cost,
            "recovered_points": 100 * one.recovered,
            "recovered_share": one.recovered_share,
            "p_holm": p,
        }
        for one, p in zip(found, adjusted, strict=True)
    ]
    frame = pd.DataFrame(rows)
    for end in ("low", "high"):
        frame[f"recovered_points_{end}"] = 100 * frame.pop(f"recovered_{end}")
    return frame


def _over_seeds(values: NDArray[np.float64]) -> Interval:
    if len(values) < 2:
        return Interval(math.nan, math.nan)
    half = (
        t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    )
    return Interval(float(values.mean() - half), float(values.mean() + half))
