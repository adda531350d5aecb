"""A codec that treats every tensor sent on its own: one payload after the other.

Tensors of one codec and length are coded together (`stacked`). Where a payload may have to be
refused, all is done again tensor by tensor, on the CPU, which says why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel import stacked
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.device_codec import DeviceCodec, on_device, on_host, too_large, unsent
from latentwire.channel.layout import Layout, Site, tensor_of
from latentwire.channel.payload_lengths import known_payload_bytes


@dataclass(frozen=True)
class PerTensor(DeviceCodec):
    """K and V of each layer through the codec that `at(kind, layer)` names."""

    name: str
    number: int
    bits: float | None
    at: Callable[[str, int], Codec] = field(compare=False)

    def payloads(self, cache: KVCache, layout: Layout) -> Tensor:
        found: dict[Site, tuple[Tensor, ...]] = {}
        doubts = []
        for codec, sites in self._alike(layout.sent, layout.tokens_of):
            parts, doubt = stacked.encode(codec, [tensor_of(cache, *site) for site in sites])
            found |= zip(sites, zip(*(part.unbind() for part in parts), strict=True), strict=True)
            doubts.append(doubt)
        if not found:
            return torch.empty(len(cache.keys[0]), 0, dtype=torch.uint8)  # no tensor is sent
        if bool(torch.stack(doubts).any()):
            rows = (cache.rows(row, row + 1) for row in range(len(cache.keys[0])))
            alone = [self.encode_alone(row, layout) for row in rows]
            return on_device([memoryview(each) for each in alone], torch.device("cpu"))
        return torch.cat([part for site in layout.sent for part in found[site]], -1)

    def caches(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> KVCache:
        tensors: dict[Site, Tensor] = {}
        doubts, starts = [], self._starts(layout)
        for codec, sites in self._alike(layout.sent, layout.tokens_of):
            shape, place, parts = layout.shape_of(sites[0][1]), 0, []
            for length in (each.length for each in codec.fields(shape)):
                begins = [starts[site] + place for site in sites]
                parts.append(torch.stack([data[:, begin : begin + length] for begin in begins]))
                place += length
            x, doubt = stacked.decode(codec, parts, shape, dtype)
            tensors |= zip(sites, x.unbind(), strict=True)
            doubts.append(doubt)
        if doubts and bool(torch.stack(doubts).any()):
            for row in on_host(data):
                self.decode_alone(memoryview(row), layout)
            raise too_large(dtype)
        return layout.cache(tensors, unsent(layout, len(data), data[:, :0].to(dtype)))

    def encode_alone(self, cache: KVCache, layout: Layout) -> bytearray:
        """`encode` of one example, tensor by tensor: what it has to give, and says why not."""
        payload = bytearray()
        for kind, layer in layout.sent:
            payload += self.at(kind, layer).encode(tensor_of(cache, kind, layer)[0])
        return payload

    def decode_alone(self, data: memoryview, layout: Layout) -> KVCache:
        """`decode`, tensor by tensor: what it has to give, and says why not."""
        tensors = {}
        starts = self._starts(layout)
        for site in layout.sent:
            codec, shape = self.at(*site), layout.shape_of(site[1])
            start = starts[site]
            try:
                own = data[start : start + codec.payload_bytes(shape)]
                tensors[site] = codec.decode(own, shape)[None]
            except CodecError as error:
                raise CodecError(f"{site[0]} of layer {site[1]}: {error}") from None
        return layout.cache(tensors)

    def payload_bytes(self, layout: Layout) -> int:
        return sum(self._sizes(layout).values())

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        tensors: dict[Site, Tensor] = {}
        for codec, sites in self._alike(layouts[0].sites, lambda n: cache.keys[n].shape[2]):
            sent = [tensor_of(cache, *site) for site in sites]
            tensors |= zip(sites, stacked.round_trip(codec, sent), strict=True)
        whole = layouts[0].cache(tensors, cache.keys[0])
        return whole, known_payload_bytes(self, layouts)

    def parameters(self, layout: Layout) -> bytes:
        return b""

    def _alike(
        self, sites: Sequence[Site], tokens_of: Callable[[int], int]
    ) -> list[tuple[Codec, list[Site]]]:
        """Tensors of one codec and as many tokens, so that they can be worked on at once."""
        found: dict[tuple[int, int], tuple[Codec, list[Site]]] = {}
        for kind, layer in sites:
            codec = self.at(kind, layer)
            _, own = found.setdefault((id(codec), tokens_of(layer)), (codec, []))
            own.append((kind, layer))
        return [*found.values()]

    def _sizes(self, layout: Layout) -> dict[Site, int]:
        """Length of each tensor's payload."""
        sizes: dict[Site, int] = {}
        for codec, sites in self._alike(layout.sent, layout.tokens_of):
            shape = layout.shape_of(sites[0][1])
            sizes |= dict.fromkeys(sites, codec.payload_bytes(shape))
        return sizes

    def _starts(self, layout: Layout) -> dict[Site, int]:
        """Where each tensor's payload begins."""
        sizes = self._sizes(layout)
        ends = accumulate((sizes[site] for site in layout.sent), initial=0)
        return dict(zip(layout.sent, ends, strict=False))


def uniform(codec: Codec) -> PerTensor:
    """`codec` for every tensor."""
    return PerTensor(codec.name, codec.number, codec.bits, lambda kind, layer: codec)


def by_kind(name: str, number: int, bits: float, keys: Codec, values: Codec) -> PerTensor:
    """One codec for keys, another for values."""
    return PerTensor(name, number, bits, lambda kind, layer: keys if kind == "key" else values)
