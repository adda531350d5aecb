"""`kvcomm`: all tokens, of some layers: those whose attention looks at the message most.

KVComm (arXiv:2510.03346): a layer's score is 0.8 of its attention's mass on the message, the first
token left out, and 0.2 of a Gaussian over the layers around the middle one (sigma 10), each first
brought to 0 .. 1 over the layers. There the receiver attends to the sharer's cache, for some
questions of the task; a sender has neither, so that here the sharer's last tokens look at all
before them, question by question. (The weight 0.8 is ours: the paper's code leaves it to the user.)
Of layers as many go as the budget's share of the tokens says, rounded down.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.ranked import Ranked, Ranks

if TYPE_CHECKING:
    from torch import Tensor

    from c2c.cache import KVCache

OBSERVED, SIGMA = 0.8, 10.0


class KVComm(Ranked):
    by_layer = True
    needs_queries = True
    help = "whole layers, those that attend to the text most"

    def order(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        import torch

        from latentwire.channel.selectors.attention import WINDOW, attended
        from latentwire.channel.selectors.scores import best_first

        place = torch.arange(cache.tokens, device=tokens.device)
        text = (place > 0) & (place < tokens[:, None] - WINDOW)  # [B, T]
        mass = (attended(cache, tokens) * text).sum(-1)
        layer = torch.arange(cache.layers, device=tokens.device, dtype=torch.float32)[:, None]
        prior = torch.exp(-(((layer - (cache.layers - 1) / 2) / SIGMA) ** 2) / 2)
        scores = OBSERVED * _spread(mass) + (1 - OBSERVED) * _spread(prior)
        return best_first(scores.T[None], torch.full_like(tokens, cache.layers))

    def chosen(
        self, ranks: Sequence[Ranks], tokens: Sequence[int], counts: Sequence[int]
    ) -> list[Positions]:
        return list(map(_layers, ranks, tokens, counts))


def _layers(ranks: Ranks, tokens: int, count: int) -> Positions:
    """All of so many tokens, of the best layers."""
    import numpy as np

    from latentwire.channel.layer_runs import LayerRuns

    (order,) = ranks
    best = np.sort(order[: len(order) * count // tokens])
    table = np.stack([best, np.zeros_like(best), np.full_like(best, tokens)], axis=1)
    return Positions.of_runs(LayerRuns(len(order), table), range(tokens))


def _spread(scores: "Tensor") -> "Tensor":
    """Of each row of [L, B] the layers' scores brought to 0 .. 1."""
    low, high = scores.amin(0), scores.amax(0)
    return (scores - low) / (high - low).clamp_min(1e-9)


SELECTOR = KVComm()
