"""Rotary position embedding taken off cached keys, and put on again.

    angle = position * inv_freq        (a, b) -> (a cos - b sin, b cos + a sin)

on the channel pairs (i, i + D/2), the rotate-half convention of transformers' Qwen2, Qwen3 and
Llama. Without the rotation keys of different positions vary in the same directions, which a
transform fitted to many positions can use. `redo` is the inverse of `undo` whatever the model's own
convention is; a wrong one only spoils what is gained.

Source: RoFormer (arXiv:2104.09864).
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from c2c.cache import geometry
from latentwire.errors import LatentWireError

if TYPE_CHECKING:  # it takes seconds to import, and codecs' names do without
    from transformers import PreTrainedModel

# Frequencies that depend on nothing but the config; others change with the prompt's length.
_FIXED = ("default", "linear", "llama3")


def undo(keys: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    """Keys as before rotary embedding.

    `keys` float32 [H, T, D] or [B, H, T, D] as cached, `positions` int64 [T] in the prompt,
    `inv_freq` [D/2] in radians a position. ValueError where the shapes do not fit.
    """
    return _rotate(keys, positions, inv_freq, -1.0)


def redo(keys: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    """Keys as cached, from what `undo` gave; same arguments."""
    return _rotate(keys, positions, inv_freq, 1.0)


def _rotate(keys: Tensor, positions: Tensor, inv_freq: Tensor, direction: float) -> Tensor:
    half = inv_freq.shape[0]
    if keys.shape[-1] != 2 * half or positions.shape != keys.shape[-2:-1]:
        raise ValueError(
            f"keys {list(keys.shape)} do not go with {list(positions.shape)} positions"
            f" and {half} frequencies"
        )
    # In float64: at position 10,000 a float32 angle is off by up to 5e-4.
    angle = torch.outer(positions.double(), inv_freq.double()).to(keys.device)
    cos, sin = angle.cos(), direction * angle.sin()
    first, second = keys.double().split(half, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(keys.dtype)


def inverse_frequencies(model: "PreTrainedModel") -> Tensor:
    """The float32 [D/2] inverse frequencies (CPU) by which `model` rotates all of its keys.

    Raises LatentWireError for a model without rotary embedding or with one that is not a plain
    rotation, the same in every layer and for every prompt.
    """
    kind = getattr(model.config, "model_type", "unknown")
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if rotary is None:
        raise LatentWireError(f"a model of type {kind!r} has no rotary embedding to take off")
    inv_freq = getattr(rotary, "inv_freq", None)
    if not isinstance(inv_freq, Tensor):
        raise LatentWireError(
            f"a model of type {kind!r} rotates keys by other angles in each kind"
            " of layer, which cannot be taken off yet"
        )
    if getattr(rotary, "rope_type", "default") not in _FIXED:
        raise LatentWireError(
            f"a model with rotary embedding of type {rotary.rope_type!r} rotates by angles that"
            " depend on the prompt's length, which cannot be taken off"
        )
    if getattr(rotary, "attention_scaling", 1.0) != 1.0:
        raise LatentWireError(
            f"a model of type {kind!r} scales keys as it rotates them (by"
            f" {rotary.attention_scaling:g}), which cannot be taken off"
        )
    head_dim = geometry(model.config).head_dim
    if 2 * inv_freq.numel() != head_dim:
        raise LatentWireError(
            f"a model of type {kind!r} rotates {2 * inv_freq.numel()} of a key's {head_dim}"
            " numbers, and only a whole rotation can be taken off"
        )
    return inv_freq.detach().float().cpu()
