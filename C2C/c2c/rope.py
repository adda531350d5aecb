"""Rotary position embedding taken off cached keys, and put on again.

    angle = position * inv_freq        (a, b) -> (a cos - b sin, b cos + a sin)

on the channel pairs (i, i + D/2), the rotate-half convention of transformers' Qwen2, Qwen3 and
Llama. Source: RoFormer (arXiv:2104.09864).
"""

import torch
from torch import Tensor


def undo(keys: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    """Keys as before rotary embedding.

    `keys` [..., H, T, D] as cached, `positions` int64 [T] in the prompt, or [B, T] for keys
    [..., B, H, T, D] whose rows differ; `inv_freq` [D/2] in radians a position. ValueError where
    the shapes do not fit.
    """
    return _rotate(keys, positions, inv_freq, -1.0)


def redo(keys: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    """Keys as cached, from what `undo` gave; same arguments."""
    return _rotate(keys, positions, inv_freq, 1.0)


def _rotate(keys: Tensor, positions: Tensor, inv_freq: Tensor, direction: float) -> Tensor:
    half = inv_freq.shape[0]
    if keys.shape[-1] != 2 * half or positions.shape[-1:] != keys.shape[-2:-1]:
        raise ValueError(
            f"keys {list(keys.shape)} do not go with {list(positions.shape)} positions"
            f" and {half} frequencies"
        )
    # In float64: at position 10,000 a float32 angle is off by up to 5e-4.
    angle = (positions.double()[..., None] * inv_freq.double()).to(keys.device)
    if positions.dim() > 1:
        angle = angle.unsqueeze(-3)  # the same for all heads
    cos, sin = angle.cos(), direction * angle.sin()
    first, second = keys.double().split(half, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(keys.dtype)
