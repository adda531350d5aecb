"""What of a cache a packet holds: known to both ends before a number is read."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache

Site = tuple[str, int]  # "key" or "value", and the sharer's layer


@dataclass(frozen=True)
class Layout:
    """Which layers' K and V of which tokens are sent."""

    geometry: Geometry  # of the sharer's cache
    key_layers: tuple[int, ...]  # sharer layers whose K is sent, ascending
    value_layers: tuple[int, ...]
    runs: tuple[range, ...]  # kept positions of the prompt, ascending, not touching
    first_position: int = 0  # position of the prompt's first token in its conversation

    @cached_property
    def tokens(self) -> int:
        return sum(map(len, self.runs))

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, T, D] of every tensor sent."""
        return self.geometry.kv_heads, self.tokens, self.geometry.head_dim

    @cached_property
    def sent(self) -> tuple[Site, ...]:
        """Kind and layer of every tensor sent, in the packet's order: K ascending, then V."""
        return (
            *(("key", layer) for layer in self.key_layers),
            *(("value", layer) for layer in self.value_layers),
        )

    @property
    def elements(self) -> int:
        """Numbers sent."""
        heads, tokens, head_dim = self.shape
        return len(self.sent) * heads * tokens * head_dim

    def positions(self) -> Tensor:
        """Position of every kept token in its conversation, int64 [T]."""
        starts, lengths = torch.tensor([(run.start, len(run)) for run in self.runs]).T
        passed = lengths.cumsum(0) - lengths  # kept tokens before each run
        first = self.first_position + starts - passed
        return torch.arange(self.tokens) + torch.repeat_interleave(first, lengths)

    def cache(self, tensors: dict[Site, Tensor], like: Tensor | None = None) -> KVCache:
        """A cache of `tensors` by kind and layer; NaN where nothing was sent, so that using it
        cannot go unnoticed. Where no tensor is sent at all, `like` gives shape, dtype and device
        (without it: one example's, float32, on the CPU)."""
        if like is None:
            like = torch.empty(()).expand(1, *self.shape)  # a shape that takes no memory
        like = next(iter(tensors.values()), like)
        unsent = like.new_full((), torch.nan).expand_as(like)
        layers = range(self.geometry.layers)
        return KVCache(
            tuple(tensors.get(("key", layer), unsent) for layer in layers),
            tuple(tensors.get(("value", layer), unsent) for layer in layers),
        )


def tensor_of(cache: KVCache, kind: str, layer: int) -> Tensor:
    """K (`key`) or V (`value`) of one layer."""
    return (cache.keys if kind == "key" else cache.values)[layer]


def example(cache: KVCache, row: int, layout: Layout) -> KVCache:
    """One example of a batch that is filled up, [1, H, T, D] with the tokens of its layout."""
    return cache.map(lambda tensor: tensor[row : row + 1, :, : layout.tokens])
