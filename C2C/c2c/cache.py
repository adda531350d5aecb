"""A KV cache as plain tensors, and the way to and from transformers' own cache object.

Tensor dimensions, here and everywhere in this project: ``L`` layers, ``B`` batch, ``H`` KV heads,
``T`` tokens, ``D`` head_dim. Keys are as the models cache them: after normalization and after
rotary embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from c2c.errors import C2CError
from c2c.on_device import on_device

if TYPE_CHECKING:  # it takes seconds to import, and codecs do without
    from transformers import DynamicCache


@dataclass(frozen=True)
class Geometry:
    """The shape of a model's cache."""

    layers: int
    kv_heads: int
    head_dim: int

    def __str__(self) -> str:
        return f"{self.layers} layers of {self.kv_heads} KV heads of {self.head_dim} channels"

    @property
    def width(self) -> int:
        """Numbers in one token's K (or V) of one layer, heads flattened."""
        return self.kv_heads * self.head_dim


def geometry(config: Any) -> Geometry:
    """Cache geometry from a transformers config; an explicit head_dim wins over hidden / heads.

    Raises C2CError for a config that does not describe a plain K/V cache.
    """
    config = config.get_text_config()
    try:
        layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    except (AttributeError, TypeError):
        kind = getattr(config, "model_type", "unknown")
        raise C2CError(
            f"a model of type {kind!r} has no plain K/V cache: choose a decoder with one"
            " (Qwen2, Qwen3, Llama, Gemma 3, ...)"
        ) from None
    return Geometry(layers, kv_heads, head_dim)


@dataclass(frozen=True)
class KVCache:
    """Keys and values of consecutive tokens: L tensors each, of shape [B, H, T, D].

    Where a pass was asked for them, the tokens' `queries` too, as attention takes them: L tensors
    [B, Hq, T, D], scaled, so that a query times a key is what the softmax is taken of.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    queries: tuple[Tensor, ...] = ()

    @property
    def layers(self) -> int:
        return len(self.keys)

    @property
    def tokens(self) -> int:
        return self.keys[0].shape[2]

    def map(self, function: Callable[[Tensor], Tensor]) -> "KVCache":
        """The same cache with `function` applied to every tensor."""
        parts = (self.keys, self.values, self.queries)
        return KVCache(*(tuple(map(function, tensors)) for tensors in parts))

    def section(self, start: int, stop: int) -> "KVCache":
        """Tokens start to stop (views, nothing is copied)."""
        return self.map(lambda tensor: tensor[:, :, start:stop])

    def rows(self, start: int, stop: int) -> "KVCache":
        """Examples start to stop of the batch (views, nothing is copied)."""
        return self.map(lambda tensor: tensor[start:stop])

    def at(self, positions: Tensor) -> "KVCache":
        """The tokens at `positions` (int64 [k]), copied, in that order."""
        return self.map(lambda tensor: tensor.index_select(2, positions))

    def pick(self, rows: Tensor) -> "KVCache":
        """The examples of the batch that `rows` names (indices or a mask [B]), copied."""
        return self.map(lambda tensor: tensor[rows])


def concatenate(caches: Sequence[KVCache], dim: int) -> KVCache:
    """Join caches along the batch (dim 0) or along the tokens (dim 2)."""
    return KVCache(
        tuple(torch.cat(tensors, dim) for tensors in zip(*(c.keys for c in caches), strict=True)),
        tuple(torch.cat(tensors, dim) for tensors in zip(*(c.values for c in caches), strict=True)),
    )


def tokens_at(cache: KVCache, places: Sequence[Sequence[int]]) -> KVCache:
    """Of each row the tokens at its `places`; shorter rows repeat their last one."""
    first = places[0]
    if all(row == first for row in places) and [*first] == [*range(first[0], first[-1] + 1)]:
        return cache.section(first[0], first[-1] + 1)
    most = max(map(len, places))
    filled = [[*row, *[row[-1]] * (most - len(row))] for row in places]
    index = on_device(torch.tensor(filled), cache.keys[0].device)[:, None, :, None]
    return cache.map(lambda x: x.gather(2, index.expand(-1, x.shape[1], -1, x.shape[3])))


def to_transformers(cache: KVCache) -> "DynamicCache":
    """A transformers cache that holds `cache` and can be extended by the model.

    Every layer is a full one, also where the model uses a sliding window: the mask does the
    sliding, and no position that the fuser may need is dropped.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    dynamic = DynamicCache()
    for key, value in zip(cache.keys, cache.values, strict=True):
        layer = DynamicLayer()
        # Not `update`, which copies both behind nothing. A model joins its tokens in a new tensor.
        layer.keys, layer.values, layer.is_initialized = key, value, True
        layer.dtype, layer.device = key.dtype, key.device
        dynamic.layers.append(layer)
    return dynamic


def from_transformers(cache: "DynamicCache") -> KVCache:
    """The tensors of a transformers cache (shared, not copied)."""
    return KVCache(
        tuple(layer.keys for layer in cache.layers), tuple(layer.values for layer in cache.layers)
    )
