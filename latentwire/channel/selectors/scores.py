"""Scores of tokens as tensors: what selectors that rank are made of."""

from collections.abc import Iterable

import torch
from torch import Tensor

EXACT_BITS = 14  # of a score's fraction


def norms(tensors: Iterable[Tensor]) -> Tensor:
    """L2 over channels, mean over heads, of each layer's [B, H, T, D]: float32 [L, B, T]."""
    return torch.stack([x.float().norm(dim=-1).mean(1) for x in tensors])


def over_layers(scores: Tensor, tokens: Tensor) -> Tensor:
    """One score for all layers, [1, B, T]: the mean of [L, B, T] once each layer's mean magnitude
    over a row's tokens (int64 [B]) is 1. Values grow with depth: the last layer would decide."""
    real = _real(scores, tokens)
    mean = (scores.abs() * real).sum(-1, keepdim=True) / tokens[:, None]
    return (scores / mean.clamp_min(torch.finfo(scores.dtype).tiny)).mean(0, keepdim=True)


def best_first(scores: Tensor, tokens: Tensor) -> Tensor:
    """Positions by falling score, int64 [L, B, T]; of equal scores the first stands first, and what
    follows a row's tokens (int64 [B]) last.

    Scores are compared to `EXACT_BITS`: sums in another order, as in a batch of another shape,
    differ by less, and must not choose among equal tokens.
    """
    fraction, exponent = torch.frexp(scores.float().nan_to_num())
    rough = torch.ldexp((fraction * 2**EXACT_BITS).round(), exponent)
    rough = rough.masked_fill(~_real(scores, tokens), -torch.inf)
    return rough.argsort(dim=-1, descending=True, stable=True)


def _real(scores: Tensor, tokens: Tensor) -> Tensor:
    """Which of [..., B, T] are tokens of their rows."""
    return torch.arange(scores.shape[-1], device=scores.device) < tokens[:, None]
