"""A lossless stage after another codec: its payload as one block, compressed.

`zstd` is Zstandard (RFC 8878) at level 19, without magic number, checksum and content size; `lzma`
is raw LZMA1, a range coder with a context model (literal contexts lc=0 and pb=0: payloads are not
text). Payloads of 16 or 32 bits a number are first sorted by byte place, so that exponents stand
together.

Parameters in the packet: the inner codec's number and parameters. Payload: the compressed block.
The inner payload's length is known from the header, and nothing longer is ever unpacked.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zstandard

from c2c.cache import KVCache
from latentwire.channel.cache_codec import arrived
from latentwire.channel.codec import CodecError, NumbersRefused
from latentwire.channel.layout import Layout, example
from latentwire.channel.mixed_precision import Schedule
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.turbo import Turbo

FixedLength = PerTensor | Schedule | Turbo  # the header tells their payload's length
NUMBERS = {"zstd": 49, "lzma": 50}
_LEVEL = 19
_WINDOW_BYTES = 1 << 27  # the largest window that a decoder accepts
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 23}]
_MAGICLESS = zstandard.FORMAT_ZSTD1_MAGICLESS
_UNKNOWN = zstandard.CONTENTSIZE_UNKNOWN
_ZSTD = zstandard.ZstdCompressionParameters.from_level(
    _LEVEL, format=_MAGICLESS, write_content_size=False, write_checksum=False
)


@dataclass(frozen=True)
class Lossless:
    """`inner`, whose payload length the header tells, and then `method`."""

    inner: FixedLength
    method: str

    @property
    def name(self) -> str:
        return f"{self.inner.name}+{self.method}"

    @property
    def number(self) -> int:
        return NUMBERS[self.method]

    @property
    def bits(self) -> float | None:
        return self.inner.bits

    def parameters(self, layout: Layout) -> bytes:
        return bytes([self.inner.number]) + self.inner.parameters(layout)

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        return compress(self._sorted(self.inner.encode(cache, layout)), self.method)

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        block = decompress(bytes(data), self.method, self.inner.payload_bytes(layout))
        return self.inner.decode(memoryview(self._unsorted(block)), layout)

    def payload_bytes(self, layout: Layout) -> None:
        return None

    def round_trip(
        self, cache: KVCache, layouts: Sequence[Layout]
    ) -> tuple[KVCache, Sequence[int]]:
        """The length is that of the real block: nothing but compressing tells it."""
        lengths = []
        for row, layout in enumerate(layouts):
            try:
                lengths.append(len(self.encode(example(cache, row, layout), layout)))
            except NumbersRefused:
                lengths.append(0)
        return self.inner.round_trip(cache, layouts)[0], lengths

    def arrived(self, cache: KVCache, layouts: Sequence[Layout]) -> KVCache:
        """See `cache_codec.arrived`: nothing is lost here."""
        return arrived(self.inner, cache, layouts)

    @property
    def _width(self) -> int:
        """Bytes of a number, where numbers are whole bytes and have more than one."""
        return int(self.inner.bits) // 8 if self.inner.bits in (16, 32) else 1

    def _sorted(self, block: bytes) -> bytes:
        return np.frombuffer(block, np.uint8).reshape(-1, self._width).T.tobytes()

    def _unsorted(self, block: bytes) -> bytes:
        return np.frombuffer(block, np.uint8).reshape(self._width, -1).T.tobytes()


def compress(block: bytes, method: str) -> bytes:
    """The block by `zstd` or `lzma`; b"" stays b""."""
    if not block:  # no tensor is sent; frames of nothing could be spelled in many ways
        return b""
    if method == "lzma":
        return lzma.compress(block, lzma.FORMAT_RAW, filters=_FILTERS)
    return zstandard.ZstdCompressor(compression_params=_ZSTD).compress(block)


def decompress(data: bytes, method: str, length: int) -> bytes:
    """Exactly `length` bytes, and no more are ever made; CodecError for anything else."""
    if length == 0:
        if data:
            raise CodecError(f"there is a {method} block, but nothing to hold")
        return b""
    try:
        block = _unpack_lzma(data, length) if method == "lzma" else unpack_zstd(data, length)
    except (lzma.LZMAError, EOFError) as error:
        raise CodecError(f"the {method} block is damaged: {error}") from None
    if len(block) != length:
        raise CodecError(f"the {method} block does not hold the {length} bytes that it should")
    return block


def _unpack_lzma(data: bytes, length: int) -> bytes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    # One byte more than there should be, so that the end mark is read too.
    block = decoder.decompress(data, length + 1)
    if not decoder.eof or decoder.unused_data:
        raise CodecError("the lzma block does not end where it should")
    return block


def unpack_zstd(data: bytes, most: int) -> bytes:
    """What a zstd block of `compress` holds, at most `most` bytes; CodecError for anything else."""
    reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES, format=_MAGICLESS)
    try:
        # A frame that tells its size is given that much memory, whatever limit is set.
        if zstandard.get_frame_parameters(data, _MAGICLESS).content_size != _UNKNOWN:
            raise CodecError("the zstd block tells its size, which no encoder of this codec writes")
        return reader.decompress(data, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(f"the zstd block is damaged: {error}") from None
