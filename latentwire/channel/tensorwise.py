"""A codec that treats every tensor sent on its own: one payload after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from c2c.cache import KVCache
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.layout import Layout, tensor_of


@dataclass(frozen=True)
class Tensorwise:
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
            stop = start + codec.payload_bytes(layout.shape)
            try:
                tensors[kind, layer] = codec.decode(data[start:stop], layout.shape)[None]
            except CodecError as error:
                raise CodecError(f"{kind} of layer {layer}: {error}") from None
            start = stop
        return layout.cache(tensors)

    def payload_bytes(self, layout: Layout) -> int:
        return sum(self.at(*site).payload_bytes(layout.shape) for site in layout.sent)

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        tensors = {
            site: self.at(*site).round_trip(tensor_of(cache, *site)) for site in layouts[0].sent
        }
        lengths = {layout.tokens: self.payload_bytes(layout) for layout in layouts}
        arrived = layouts[0].cache(tensors, cache.keys[0])
        return arrived, [lengths[layout.tokens] for layout in layouts]


def uniform(codec: Codec) -> Tensorwise:
    """`codec` for every tensor."""
    return Tensorwise(codec.name, codec.number, codec.bits, lambda kind, layer: codec)


def by_kind(name: str, number: int, bits: float, keys: Codec, values: Codec) -> Tensorwise:
    """One codec for keys, another for values."""
    return Tensorwise(name, number, bits, lambda kind, layer: keys if kind == "key" else values)
