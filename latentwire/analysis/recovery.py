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

from latentwire.analysis.noninferiority import difference_interval, equal_p
from latentwire.analysis.seeds_and_questions import compare_seeds
from latentwire.analysis.stats import Outcomes, holm


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
    recovered_low: float  # 95 %, of the test that `p` is of
    recovered_high: float
    p: float  # two-sided: nothing comes back
    by_seed: tuple[tuple[float, ...], ...]  # plain, coded and trained of each

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

    Interval and test are of trained - coded over seeds and questions at once
    (`seeds_and_questions`); with one seed they are those of two conditions, and say nothing of
    other trainings.

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
    compared = compare_seeds(
        [{name: one.trained[name] for name in common} for one in by_seed],
        [{name: one.coded[name] for name in common} for one in by_seed],
    )
    low, high = difference_interval(compared)
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
        equal_p(compared),
        tuple(map(tuple, correct.mean(axis=2).tolist())),
    )


def recovery_table(found: Sequence[Recovery]) -> pd.DataFrame:
    """A row a codec and question set. Accuracies are shares, costs percentage points; `p_holm` is
    corrected over all rows."""
    adjusted = holm([one.p for one in found])
    rows = [
        {
            **{name: value for name, value in vars(one).items() if name != "by_seed"},
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
