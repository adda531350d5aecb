"""The choice of outliers: which ladder of magnitudes tells precisions apart, on dev questions."""

from dataclasses import asdict
from itertools import pairwise

import torch
from torch import Tensor

from tools.demo_pair.answer_training import OnMetrics
from tools.demo_pair.config import OutlierLadder
from tools.demo_pair.measure import (
    Condition,
    LivePair,
    Questions,
    fused,
    natural_magnitudes,
    per_cent,
)
from tools.demo_pair.outliers import set_outliers, spread

PRECISIONS = (8, 4, 3, 2)
FLOOR = 25.0
"""Accuracy of one who knows nothing."""


def choose_outliers(
    pair: LivePair,
    dev: Questions,
    ladders: tuple[OutlierLadder, ...],
    on_metrics: OnMetrics,
) -> tuple[OutlierLadder, Tensor]:
    """The best ladder and its magnitudes [L, 2, H], which the sharer is left with.

    Best is the largest smallest step on the way down from 8 to 4, 3 and 2 bits and from there to
    the floor, less what 8 bits cost against no quantization: low precision should hurt, 8 bits
    should not. Outliers change nothing that is not quantized, so that one accuracy holds for all.
    """
    set_outliers(pair.sharer, torch.zeros_like(natural_magnitudes(pair.sharer, dev)))
    natural = natural_magnitudes(pair.sharer, dev)
    whole = per_cent(fused(pair, dev, Condition()), dev.keys)
    scores = []
    for number, ladder in enumerate(ladders):
        set_outliers(pair.sharer, spread(ladder, natural))
        levels = [per_cent(fused(pair, dev, Condition(bits=bits)), dev.keys) for bits in PRECISIONS]
        down = [*levels, FLOOR]
        steps = [high - low for high, low in pairwise(down)]
        scores.append(min(steps) - max(0.0, whole - levels[0]))
        named = {f"int{bits}": level for bits, level in zip(PRECISIONS, levels, strict=True)}
        on_metrics("outliers", asdict(ladder) | named | {"score": scores[-1]}, number)
    best = ladders[scores.index(max(scores))]
    magnitudes = spread(best, natural)
    set_outliers(pair.sharer, magnitudes)
    return best, magnitudes
