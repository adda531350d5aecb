"""The fields of a packet's header: numbers, and sets of layers."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from latentwire.channel.codec import CodecError

LARGEST_NUMBER = 2**32 - 1
_LONGER = 128 ** np.arange(1, 5)  # the first numbers of two bytes, of three, of four and of five


class PacketError(CodecError):
    """Bytes that are not a packet for this pair; the text says why."""


@lru_cache(1 << 14)  # a header holds hundreds, most of them small
def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; all bytes but the last have their highest bit set."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def varints(values: Sequence[int]) -> bytes:
    """One after the other."""
    return b"".join(map(varint, values))


def varint_bytes(values: np.ndarray) -> np.ndarray:
    """Lengths of `varint` of each of an array's numbers, int64."""
    found = np.ones(values.shape, dtype=np.int64)
    most = values.max(initial=0)
    for longer in _LONGER[most >= _LONGER]:  # most numbers of a packet take a byte or two
        found += values >= longer
    return found


def mask(layers: Sequence[int], count: int) -> bytes:
    """Which of `count` layers, a bit each, layer 0 in the lowest bit of the first byte."""
    return sum(1 << layer for layer in layers).to_bytes(-(-count // 8), "little")


class Reader:
    """Reads fields in order, never past the end; PacketError for what nobody writes."""

    def __init__(self, data: bytes | memoryview, place: int) -> None:
        self.data, self.place = data, place

    def byte(self) -> int:
        return self.bytes(1)[0]

    def bytes(self, count: int) -> bytes:
        found = bytes(self.data[self.place : self.place + count])
        if len(found) < count:
            raise PacketError("the packet ends within its header")
        self.place += count
        return found

    def varint(self) -> int:
        """Only the shortest form of a number is one."""
        value = shift = 0
        while True:
            if self.place >= len(self.data):
                raise PacketError("the packet ends within its header")
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 127) << shift
            if value > LARGEST_NUMBER:
                raise PacketError("a number in the header is too large")
            if byte < 128:
                if byte == 0 and shift:
                    raise PacketError("a number in the header is not in its shortest form")
                return value
            shift += 7
            if shift > 35:
                raise PacketError("a number in the header is too long")

    def skipped_zero(self) -> bool:
        """Whether the next number is 0; it is then read."""
        found = self.data[self.place : self.place + 1] == b"\0"
        self.place += found
        return found

    def mask(self, layers: int) -> tuple[int, ...]:
        packed = np.frombuffer(self.bytes(-(-layers // 8)), np.uint8)
        found = np.flatnonzero(np.unpackbits(packed, bitorder="little")).tolist()
        if found and found[-1] >= layers:
            raise PacketError(f"the packet names a layer past the last of {layers}")
        return tuple(found)
