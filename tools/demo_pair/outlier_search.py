"""The choice of outliers: which ladder of magnitudes tells precisions apart, on dev questions."""

from dataclasses import asdict
from itertools import pairwise

import torch
from torch import Tensor

from latentwire.evaluation.loaded_pair import LoadedPair
from tools.demo_pair.answer_training import OnMetrics
from tools.demo_pair.config import OutlierLadder
from tools.demo_pair.measure import PRECISIONS, WHOLE, Asked, accuracy, measure
from tools.demo_pair.outliers import natural_magnitudes, set_outliers, spread

FLOOR = 25.0
"""Accuracy of one who knows nothing."""


def choose_outliers(
    pair: LoadedPair,
    dev: Asked,
    ladders: tuple[OutlierLadder, ...],
    on_metrics: OnMetrics,
) -> tuple[OutlierLadder, Tensor]:
    """The best ladder and its magnitudes [L, 2, H], which the sharer is left with.

    Best is the largest smallest step on the way down from 8 to 4, 3 and 2 bits and from there to
    the floor, less what 8 bits cost against no quantization: low precision should hurt, 8 bits
    should not. Outliers change nothing that is not quantized, so that one accuracy holds for all.
    """
    ids = torch.tensor([q.token_ids for q in dev.questions], device=pair.device)
    set_outliers(pair.sharer, torch.zeros_like(natural_magnitudes(pair.sharer, ids)))
    natural = natural_magnitudes(pair.sharer, ids)
    whole = accuracy(measure(pair, dev, WHOLE)["c2c"])
    scores = []
    for number, ladder in enumerate(ladders):
        set_outliers(pair.sharer, spread(ladder, natural))
        found = measure(pair, dev, PRECISIONS)
        levels = {name: accuracy(records) for name, records in found.items()}
        steps = [high - low for high, low in pairwise([*levels.values(), FLOOR])]
        scores.append(min(steps) - max(0.0, whole - levels["int8"]))
        on_metrics("outliers", asdict(ladder) | levels | {"score": scores[-1]}, number)
    best = ladders[scores.index(max(scores))]
    magnitudes = spread(best, natural)
    set_outliers(pair.sharer, magnitudes)
    return best, magnitudes
