"""A codec that treats every tensor sent on its own: one payload after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.kernels import launch
from latentwire.channel.layout import Layout, Site, tensor_of


@dataclass(frozen=True)
class PerTensor:
    """K and V of each layer through the codec that `at(kind, layer)` names."""

    name: str
    number: int
    bits: float | None
    at: Callable[[str, int], Codec] = field(compare=False)
    header: bytes = b""

    def parameters(self, layout: Layout) -> bytes:
        return self.header

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        return b"".join(
            self.at(kind, layer).encode(tensor_of(cache, kind, layer)[0])
            for kind, layer in layout.sent
        )

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        tensors = {}
        start = 0
        for kind, layer in layout.sent:
            codec = self.at(kind, layer)
            shape = layout.shape_of(layer)
            stop = start + codec.payload_bytes(shape)
            try:
                tensors[kind, layer] = codec.decode(data[start:stop], shape)[None]
            except CodecError as error:
                raise CodecError(f"{kind} of layer {layer}: {error}") from None
            start = stop
        return layout.cache(tensors)

    def payload_bytes(self, layout: Layout) -> int:
        return sum(self.at(*site).payload_bytes(layout.shape_of(site[1])) for site in layout.sent)

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        codecs = {site: self.at(*site) for site in layouts[0].sites}
        alike: dict[tuple[int, int], list[Site]] = {}
        for site, codec in codecs.items():
            tokens = tensor_of(cache, *site).shape[2]
            alike.setdefault((id(codec), tokens), []).append(site)
        tensors: dict[Site, Tensor] = {}
        for sites in alike.values():
            sent = [tensor_of(cache, *site) for site in sites]
            tensors |= zip(sites, _round_trip(codecs[sites[0]], sent), strict=True)
        # One of each length is enough: what else a layout says, they have in common.
        of_length = {(layout.tokens, layout.by_layer): layout for layout in layouts}
        lengths = {tokens: self.payload_bytes(layout) for tokens, layout in of_length.items()}
        whole = layouts[0].cache(tensors, cache.keys[0])
        return whole, [lengths[layout.tokens, layout.by_layer] for layout in layouts]


def _round_trip(codec: Codec, tensors: list[Tensor]) -> Sequence[Tensor]:
    """All tensors in one pass where there is a kernel for them, to the bit the same."""
    if tensors[0].is_cuda and launch.supports(codec, tensors[0]):
        return launch.round_trip(codec, tensors)
    return [codec.round_trip(tensor) for tensor in tensors]


def uniform(codec: Codec) -> PerTensor:
    """`codec` for every tensor."""
    return PerTensor(codec.name, codec.number, codec.bits, lambda kind, layer: codec)


def by_kind(name: str, number: int, bits: float, keys: Codec, values: Codec) -> PerTensor:
    """One codec for keys, another for values."""
    return PerTensor(name, number, bits, lambda kind, layer: keys if kind == "key" else values)
