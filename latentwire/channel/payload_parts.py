"""What payloads are made of: scales as floats, and codes of a few bits packed without gaps.

`Floats` and `Codes` are the fields of a payload. They write and read those of many payloads at
once, where the numbers are: a packet's bytes are made on the device that holds its cache.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from c2c.quantize import largest_code
from latentwire.channel.codec import CodecError, Fault

FLOAT16, FLOAT32 = "<f2", "<f4"  # as they stand in a payload
NOT_ZERO = "the bits after the last code are not zero"
NOT_POSITIVE = "payload has a scale that is not a positive number"
_OCTET = 8  # codes that fill whole bytes, however few bits they have


@dataclass(frozen=True)
class Floats:
    """Numbers of a floating-point type, in order."""

    dims: tuple[int, ...]
    dtype: torch.dtype

    @property
    def length(self) -> int:
        """Bytes."""
        return math.prod(self.dims) * self.dtype.itemsize

    def write(self, x: Tensor, lead: torch.Size) -> Tensor:
        """The bytes, uint8 [*lead, length], of `lead` fields' numbers."""
        return x.reshape(*lead, -1).contiguous().view(torch.uint8)

    def read(self, data: Tensor) -> tuple[Tensor, list[Fault]]:
        """The numbers [*lead, *dims] of bytes [*lead, length] that lie in memory of their own; and
        what is wrong with them."""
        return data.view(self.dtype).view(*data.shape[:-1], *self.dims), []


@dataclass(frozen=True)
class Codes:
    """Codes from `-offset` up, sent as code + offset in `bits` bits each; see `packed`."""

    dims: tuple[int, ...]
    bits: int
    offset: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"codes have 1 to 8 bits, not {self.bits}")

    @classmethod
    def signed(cls, dims: tuple[int, ...], bits: int) -> "Codes":
        """Codes from -q to q, where q is the largest of `bits` bits."""
        return cls(dims, bits, largest_code(bits))

    @property
    def length(self) -> int:
        """Bytes."""
        return packed_bytes(self.dims, self.bits)

    def write(self, codes: Tensor, lead: torch.Size) -> Tensor:
        """The bytes, uint8 [*lead, length], of `lead` fields' codes (of any number type)."""
        raised = codes + self.offset if self.offset else codes
        return packed(raised.to(torch.uint8).reshape(*lead, -1), self.bits)

    def read(self, data: Tensor) -> tuple[Tensor, list[Fault]]:
        """The codes [*lead, *dims] of bytes [*lead, length] (uint8, or int16 where they may be
        negative); and what is wrong with them."""
        codes, rest = unpacked(data, self.bits, math.prod(self.dims))
        faults = [(rest != 0, NOT_ZERO)] if rest.numel() else []
        codes = codes.view(*data.shape[:-1], *self.dims)
        if not self.offset:
            return codes, faults
        above = (codes > 2 * self.offset, f"payload has a code above {self.offset}")
        return codes.short() - self.offset, [*faults, above]


def packed(codes: Tensor, bits: int) -> Tensor:
    """uint8 [..., bytes] of codes [..., count] (uint8) from 0 to 2^bits - 1, in order: `bits` (1 to
    8) bits each, least significant bit first; the last byte is filled with zeros."""
    if bits == 8:
        return codes
    count = codes.shape[-1]
    if _OCTET % bits == 0:  # whole codes in a byte
        places = _places(bits, codes.device)
        whole = _padded(codes, -(-count // len(places)) * len(places))
        return (whole.unflatten(-1, (-1, len(places))) << places).sum(-1, dtype=torch.uint8)
    whole = _padded(codes, -(-count // _OCTET) * _OCTET).to(_word(bits))
    words = whole.unflatten(-1, (-1, _OCTET)) << _places(bits, codes.device)
    octets = words.sum(-1, keepdim=True, dtype=words.dtype).view(torch.uint8)[..., :bits]
    return octets.flatten(-2)[..., : packed_bytes((count,), bits)]


def unpacked(data: Tensor, bits: int, count: int) -> tuple[Tensor, Tensor]:
    """The codes [..., count] (uint8) that `packed` packed, and the bits after the last code."""
    if bits == 8:
        return data, data[..., count:]
    if _OCTET % bits == 0:
        codes = (data[..., None] >> _places(bits, data.device) & (1 << bits) - 1).flatten(-2)
        return codes[..., :count].contiguous(), codes[..., count:]
    octets = -(-count // _OCTET)
    word = _word(bits)
    words = _padded(_padded(data, octets * bits).unflatten(-1, (octets, bits)), word.itemsize)
    codes = words.contiguous().view(word) >> _places(bits, data.device) & (1 << bits) - 1
    codes = codes.to(torch.uint8).flatten(-2)
    return codes[..., :count].contiguous(), codes[..., count:]


def _padded(x: Tensor, size: int) -> Tensor:
    """x [..., n] with zeros behind it, [..., size]."""
    return functional.pad(x, (0, size - x.shape[-1])) if size > x.shape[-1] else x


def _word(bits: int) -> torch.dtype:
    """What holds eight codes at once, or as many as fill a byte."""
    if _OCTET % bits == 0:
        return torch.uint8
    return torch.int32 if bits <= 4 else torch.int64


@cache
def _places(bits: int, device: torch.device) -> Tensor:
    """The lowest bit of each code of a word."""
    word = _word(bits)
    stop = _OCTET * (1 if word == torch.uint8 else bits)
    return torch.arange(0, stop, bits, dtype=word, device=device)


def float_bytes(x: Tensor, kind: str) -> bytes:
    """The numbers of a tensor in order, as FLOAT16 or FLOAT32."""
    return x.cpu().numpy().astype(kind).tobytes()


def read_floats(data: memoryview, kind: str) -> Tensor:
    """The numbers that `float_bytes` wrote, [count]."""
    return torch.from_numpy(np.frombuffer(data, dtype=kind).astype(kind[1:]))


def not_positive(scale: Tensor) -> Tensor:
    """Which scales are not positive numbers."""
    return ~((scale > 0) & (scale < torch.inf))


def check_scales(scale: Tensor, codec: str) -> None:
    """CodecError for a scale of a payload of `codec` that is not a positive number."""
    if bool(not_positive(scale).any()):
        raise CodecError(f"{codec} {NOT_POSITIVE}")


def packed_bytes(shape: Sequence[int], bits: int) -> int:
    """Length of what `packed` makes of codes of a shape."""
    return -(-math.prod(shape) * bits // 8)


def pack(codes: np.ndarray, bits: int) -> bytes:
    """What `packed` makes of a few codes (uint8 [count]) of the host: in less time."""
    each = codes[:, None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(each, bitorder="little").tobytes()


def unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """The codes (uint8 [count]) that `pack` wrote; CodecError where what fills the last byte is not
    zero."""
    each = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if each[count * bits :].any():
        raise CodecError(NOT_ZERO)
    return each[: count * bits].reshape(count, bits) @ (1 << np.arange(bits, dtype=np.uint8))
