"""What of a cache a packet holds: known to both ends before a number is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.on_device import on_device
from c2c.sections import Runs
from latentwire.channel.codec import CodecError
from latentwire.channel.layer_runs import LayerRuns
from latentwire.channel.positions import Positions
from latentwire.channel.sent_rows import SentRows
from latentwire.channel.tokens_of_runs import tokens_of_rows

Site = tuple[str, int]  # "key" or "value", and the sharer's layer


@dataclass(frozen=True)
class Layout:
    """Which layers' K and V of which tokens are sent; tokens as in `Positions`."""

    geometry: Geometry  # of the sharer's cache
    key_layers: tuple[int, ...]  # sharer layers whose K is sent, ascending
    value_layers: tuple[int, ...]
    runs: Runs  # of the prompt's tokens: its sections that are merged
    first_position: int = 0  # position of the prompt's first token in its conversation
    by_layer: Sequence[Runs] = ()  # of all sharer layers, where they send different tokens
    text_tokens: int = 0  # as in `Positions`
    classes: bytes = b""  # as in `Positions`

    @cached_property
    def kept(self) -> Positions:
        return Positions(self.runs, self.by_layer, self.text_tokens, self.classes)

    @cached_property
    def tokens(self) -> int:
        """Of all sections: no layer sends more."""
        return sum(map(len, self.runs))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many tokens each layer sends."""
        if not self.by_layer:
            return (self.tokens,) * self.geometry.layers
        return LayerRuns.of(self.by_layer).counts()

    def tokens_of(self, layer: int) -> int:
        """How many tokens one layer sends."""
        return self.counts[layer]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, T, D] of every tensor sent; CodecError where they differ."""
        if self.by_layer:
            raise CodecError("whole tokens are coded, which cannot be others in other layers")
        return self.geometry.kv_heads, self.tokens, self.geometry.head_dim

    def shape_of(self, layer: int) -> tuple[int, int, int]:
        """[H, T, D] of a layer's K and of its V."""
        return self.geometry.kv_heads, self.tokens_of(layer), self.geometry.head_dim

    @property
    def sites(self) -> tuple[Site, ...]:
        """Kind and layer of every tensor that may be sent: K ascending, then V."""
        return _sites(self.key_layers, self.value_layers)

    @cached_property
    def sent(self) -> tuple[Site, ...]:
        """Kind and layer of every tensor sent, in the packet's order: those that have tokens."""
        return tuple(site for site in self.sites if self.counts[site[1]])

    @property
    def elements(self) -> int:
        """Numbers sent."""
        width, layers = self.geometry.width, (*self.key_layers, *self.value_layers)
        return width * sum(self.counts[layer] for layer in layers)

    def positions(self, layer: int = 0) -> Tensor:
        """Position in its conversation of every token that a layer sends, int64 [T]."""
        return self.first_position + torch.tensor(self.kept.tokens(layer), dtype=torch.long)

    def cache(self, tensors: dict[Site, Tensor], like: Tensor | None = None) -> KVCache:
        """A cache of `tensors` by kind and layer; NaN where nothing was sent, so that using it
        cannot go unnoticed. Where no tensor is sent at all, `like` gives shape, dtype and device
        (without it: one example's, float32, on the CPU)."""
        if like is None:
            heads, head_dim = self.geometry.kv_heads, self.geometry.head_dim
            like = torch.empty(()).expand(1, heads, self.tokens, head_dim)  # takes no memory
        like = next(iter(tensors.values()), like)
        layers = range(self.geometry.layers)
        whole = len(tensors) == 2 * len(layers)  # nothing to be made for what was not sent
        unsent = like if whole else like.new_full((), torch.nan).expand_as(like)
        return KVCache(
            tuple(tensors.get(("key", layer), unsent) for layer in layers),
            tuple(tensors.get(("value", layer), unsent) for layer in layers),
        )

    def within(self, cache: KVCache, start: int, stop: int) -> tuple[KVCache, Tensor]:
        """What arrived of the prompt's tokens start to stop - 1, NaN where a layer did not send
        one; and which each sharer layer sent, bool [L, stop - start]. `cache` is one example's."""
        sent = torch.zeros(self.geometry.layers, stop - start, dtype=torch.bool)

        def placed(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            whole = []
            for layer, x in enumerate(tensors):
                at = self.positions(layer) - self.first_position - start
                (inside,) = torch.where((at >= 0) & (at < stop - start))
                sent[layer, at[inside]] = True
                shape = (*x.shape[:2], stop - start, x.shape[3])
                whole.append(x.new_full(shape, torch.nan))
                whole[-1][:, :, at[inside]] = x[:, :, inside]
            return tuple(whole)

        return KVCache(placed(cache.keys), placed(cache.values)), sent


@cache  # layouts of one pair have them in common
def _sites(key_layers: tuple[int, ...], value_layers: tuple[int, ...]) -> tuple[Site, ...]:
    return tuple(
        (kind, layer)
        for kind, layers in (("key", key_layers), ("value", value_layers))
        for layer in layers
    )


def tensor_of(cache: KVCache, kind: str, layer: int) -> Tensor:
    """K (`key`) or V (`value`) of one layer."""
    return (cache.keys if kind == "key" else cache.values)[layer]


def example(cache: KVCache, row: int, layout: Layout) -> KVCache:
    """One example of a batch that is filled up, [1, H, T, D] with the tokens of its layout."""

    def own(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        counts = map(layout.tokens_of, range(len(tensors)))
        return tuple(x[row : row + 1, :, :count] for x, count in zip(tensors, counts, strict=True))

    return KVCache(own(cache.keys), own(cache.values))


def padded_positions(layouts: Sequence[Layout], layer: int) -> Tensor:
    """The positions of what each example sends of a layer, int64 [B, T]; shorter rows repeat their
    last, and a row of none the prompt's first."""
    first = torch.tensor([layout.first_position for layout in layouts])
    kept = SentRows(Positions(layout.kept.runs(layer)) for layout in layouts)
    ((own,), _) = tokens_of_rows(kept, 1, torch.device("cpu"))
    return first[:, None] + own


def batch_positions(layouts: Sequence[Layout], device: torch.device) -> Tensor:
    """The same of each layer, int64 [L, B, T] on a device, for which nothing waits: T of the layer
    that sends most. L = 1 where all layers send the same."""
    first = torch.tensor([layout.first_position for layout in layouts])
    kept = SentRows(layout.kept for layout in layouts)
    own, _ = tokens_of_rows(kept, layouts[0].geometry.layers if kept.differ else 1, device)
    return on_device(first, device)[:, None] + own
