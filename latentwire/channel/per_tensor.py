"""A codec that treats every tensor sent on its own: one payload after the other.

Tensors of one codec and length are coded together (`stacked`). Where a payload may have to be
refused, all is done again tensor by tensor, on the CPU, which says why.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel import stacked
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.device_codec import (
    DeviceCodec,
    on_device,
    on_host,
    too_large,
    unsent,
)
from latentwire.channel.kernels.means import Means
from latentwire.channel.layout import Layout, Site, tensor_of
from latentwire.channel.payload_lengths import known_payload_bytes
from latentwire.channel.payload_order import Group

MOST_KNOWN = 1 << 10  # layouts of one codec

MeansOf = Callable[[Sequence[Site]], Means | None]  # what is taken from these tensors; see `turbo`


@dataclass(frozen=True)
class PerTensor(DeviceCodec):
    """K and V of each layer through the codec that `at(kind, layer)` names."""

    name: str
    number: int
    bits: float | None
    at: Callable[[str, int], Codec] = field(compare=False)
    # Of layouts that send as many tokens: packets are made one after the other.
    _known: dict[Hashable, list[Group]] = field(default_factory=dict, compare=False, repr=False)

    def write(
        self,
        cache: KVCache,
        layout: Layout,
        out: Tensor,
        broken: Tensor,
        means: MeansOf | None = None,
    ) -> None:
        for group in self._groups(layout):
            tensors = [tensor_of(cache, *site) for site in group.sites]
            stacked.encode(group, tensors, out, broken, means and means(group.sites))

    def write_stack(self, stack: Tensor, layout: Layout, out: Tensor, broken: Tensor) -> None:
        """`write` of all that is sent as one tensor, [N, B, H, T, D] with D contiguous."""
        for group in self._groups(layout):
            stacked.encode(group, _part(stack, group, layout), out, broken)

    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        rows = (cache.rows(row, row + 1) for row in range(len(cache.keys[0])))
        alone = [self.encode_alone(row, layout) for row in rows]
        return on_device([memoryview(each) for each in alone], torch.device("cpu"))

    def read(
        self,
        data: Tensor,
        layout: Layout,
        dtype: torch.dtype,
        broken: Tensor,
        means: MeansOf | None = None,
    ) -> KVCache:
        tensors: dict[Site, Tensor] = {}
        for group in self._groups(layout):
            x = stacked.decode(group, data, dtype, broken, means and means(group.sites))
            tensors |= zip(group.sites, x.unbind(), strict=True)
        return layout.cache(tensors, unsent(layout, len(data), data.new_empty(0, dtype=dtype)))

    def read_stack(self, data: Tensor, layout: Layout, into: Tensor, broken: Tensor) -> None:
        """`read` into all that is sent as one tensor, [N, B, H, T, D] with D contiguous."""
        for group in self._groups(layout):
            own = _part(into, group, layout)
            if isinstance(own, Tensor):
                stacked.decode(group, data, into.dtype, broken, into=own)
                continue
            arrived = stacked.decode(group, data, into.dtype, broken)
            for place, x in zip(own, arrived.unbind(), strict=True):
                place.copy_(x)

    def refuse(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        for row in on_host(data):
            self.decode_alone(memoryview(row), layout)
        raise too_large(dtype)

    def encode_alone(self, cache: KVCache, layout: Layout) -> bytearray:
        """`encode` of one example, tensor by tensor: what it has to give, and says why not."""
        payload = bytearray()
        for kind, layer in layout.sent:
            payload += self.at(kind, layer).encode(tensor_of(cache, kind, layer)[0])
        return payload

    def decode_alone(self, data: memoryview, layout: Layout) -> KVCache:
        """`decode`, tensor by tensor: what it has to give, and says why not."""
        tensors = {}
        start = 0
        for site in layout.sent:
            codec, shape = self.at(*site), layout.shape_of(site[1])
            stop = start + codec.payload_bytes(shape)
            try:
                tensors[site] = codec.decode(data[start:stop], shape)[None]
            except CodecError as error:
                raise CodecError(f"{site[0]} of layer {site[1]}: {error}") from None
            start = stop
        return layout.cache(tensors)

    def payload_bytes(self, layout: Layout) -> int:
        return sum(len(group.sites) * group.size for group in self._groups(layout))

    def round_trip(
        self, cache: KVCache, layouts: Sequence[Layout], means: MeansOf | None = None
    ) -> tuple[KVCache, list[int]]:
        tensors: dict[Site, Tensor] = {}
        found: dict[tuple[int, int], tuple[Codec, list[Site]]] = {}
        for kind, layer in layouts[0].sites:
            codec = self.at(kind, layer)
            key = id(codec), cache.keys[layer].shape[2]
            found.setdefault(key, (codec, []))[1].append((kind, layer))
        for codec, sites in found.values():
            sent = [tensor_of(cache, *site) for site in sites]
            arrived = stacked.round_trip(codec, sent, means and means(sites))
            tensors |= zip(sites, arrived, strict=True)
        whole = layouts[0].cache(tensors, cache.keys[0])
        return whole, known_payload_bytes(self, layouts)

    def parameters(self, layout: Layout) -> bytes:
        return b""

    def _groups(self, layout: Layout) -> list[Group]:
        """The tensors sent, those of one codec and as many tokens together."""
        counts: Hashable = layout.counts if layout.by_layer else layout.tokens
        key = layout.geometry, layout.key_layers, layout.value_layers, counts
        if key not in self._known:
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._grouped(layout)
        return self._known[key]

    def _grouped(self, layout: Layout) -> list[Group]:
        found: dict[tuple[int, int], Group] = {}
        start = 0
        for kind, layer in layout.sent:
            codec = self.at(kind, layer)
            key = id(codec), layout.tokens_of(layer)
            if key not in found:
                found[key] = Group(codec, layout.shape_of(layer))
            found[key].append((kind, layer), start)
            start += found[key].size
        return [*found.values()]


def _part(stack: Tensor, group: Group, layout: Layout) -> Tensor | list[Tensor]:
    """A group's tensors out of all that is sent: as one, of uniform codecs and of those by kind."""
    first = layout.sent.index(group.sites[0])
    last = first + len(group.sites)
    if layout.sent[first:last] == tuple(group.sites):
        return stack[first:last]
    return [stack[layout.sent.index(site)] for site in group.sites]


def uniform(codec: Codec) -> PerTensor:
    """`codec` for every tensor."""
    return PerTensor(codec.name, codec.number, codec.bits, lambda kind, layer: codec)


def by_kind(name: str, number: int, bits: float, keys: Codec, values: Codec) -> PerTensor:
    """One codec for keys, another for values."""
    return PerTensor(name, number, bits, lambda kind, layer: keys if kind == "key" else values)
