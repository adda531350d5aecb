"""What a packet's codec can do: it turns all that is sent of a cache into one payload.

Most codecs work tensor by tensor (`per_tensor`); some look at whole tokens (`kvtc`), at their
layer (`schedule`) or at the bytes of another (`lossless`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

from c2c.cache import KVCache
from latentwire.channel.layout import Layout


class CacheCodec(Protocol):
    """Caches are one example's, [1, H, T, D] with T >= 1, where nothing else is said.

    `round_trip` is the same loss without the packet, for whole batches [B, H, T, D]: bit-equal to
    decoding what was encoded of each example alone, but for what `BatchCodec` says.
    """

    def __hash__(self) -> int: ...  # none changes: what is known of one is kept

    @property
    def name(self) -> str: ...

    @property
    def number(self) -> int:
        """Stands in the packet; never reused."""

    @property
    def bits(self) -> float | None:
        """Of one code, without scales; None where it differs by layer."""

    def parameters(self, layout: Layout) -> bytes:
        """What the header says of the codec besides its number."""

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        """The payload; CodecError for numbers that cannot be sent."""

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        """The float32 cache on the CPU that `data` stands for, NaN where nothing was sent;
        CodecError if it stands for none."""

    def payload_bytes(self, layout: Layout) -> int | None:
        """Length of the payload; None where that depends on the numbers."""

    def round_trip(
        self, cache: KVCache, layouts: Sequence[Layout]
    ) -> tuple[KVCache, Sequence[int]]:
        """decode(encode(x)) of every example of a batch, in its dtype, and the payloads' lengths.
        Whoever looks at the lengths may wait for the device.

        Example b has `layouts[b].tokens` tokens; a batch is filled up to its longest by repeating
        the last token of each, and what comes back at those places has no meaning. Nothing is
        refused: an example that `encode` refuses holds numbers that are none, before or after.
        """


@runtime_checkable
class EmbeddedCodec(CacheCodec, Protocol):
    """A codec whose payload may end anywhere behind its head: what is there is decoded, and is the
    best for its length. `decode` takes such beginnings."""

    def least_bytes(self, layout: Layout) -> int:
        """Of a payload that `decode` takes."""

    def cut(self, payload: memoryview, layout: Layout, most_bytes: int) -> bytes:
        """The beginning of a payload that has at most so many bytes; no fewer than the least."""

    def round_trip(
        self, cache: KVCache, layouts: Sequence[Layout], most_bytes: Sequence[int] | None = None
    ) -> tuple[KVCache, Sequence[int]]:
        """With `most_bytes`, of each example's payload as `cut` makes it."""


@lru_cache(1 << 10)  # Python looks at each member of the protocol
def is_embedded(codec: CacheCodec) -> bool:
    """Whether a codec is an `EmbeddedCodec`."""
    return isinstance(codec, EmbeddedCodec)


@runtime_checkable
class LossAlone(CacheCodec, Protocol):
    """A codec whose loss is known sooner than its payload's length."""

    def arrived(self, cache: KVCache, layouts: Sequence[Layout]) -> KVCache:
        """See the function of this name."""


def arrived(codec: CacheCodec, cache: KVCache, layouts: Sequence[Layout]) -> KVCache:
    """What `round_trip` brings of a batch, without the lengths, of layouts of the same sites. An
    entropy coder does not run."""
    if isinstance(codec, LossAlone):
        return codec.arrived(cache, layouts)
    return codec.round_trip(cache, layouts)[0]
