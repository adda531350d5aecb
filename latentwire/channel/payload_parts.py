"""What payloads are made of: scales as floats, and codes of a few bits packed without gaps."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from c2c.quantize import largest_code
from latentwire.channel.codec import CodecError

FLOAT16, FLOAT32 = "<f2", "<f4"  # as they stand in a payload


def float_bytes(x: Tensor, kind: str) -> bytes:
    """The numbers of a tensor in order, as FLOAT16 or FLOAT32."""
    return x.cpu().numpy().astype(kind).tobytes()


def read_floats(data: memoryview, kind: str) -> Tensor:
    """The numbers that `float_bytes` wrote, [count]."""
    return torch.from_numpy(np.frombuffer(data, dtype=kind).astype(kind[1:]))


def check_scales(scale: Tensor, codec: str) -> None:
    """CodecError for a scale of a payload of `codec` that is not a positive number."""
    if not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise CodecError(f"{codec} payload has a scale that is not a positive number")


def check_numbers(x: Tensor, codec: str) -> None:
    """CodecError where what a payload of `codec` stands for is NaN or infinite."""
    if not bool(torch.isfinite(x).all()):
        raise CodecError(f"{codec} payload holds NaN or infinite numbers")


def packed_bytes(shape: Sequence[int], bits: int) -> int:
    """Length of what `pack` makes of codes of a shape."""
    return -(-math.prod(shape) * bits // 8)


def pack(codes: Tensor, bits: int) -> bytes:
    """Codes from 0 to 2^bits - 1 in order, `bits` bits each, least significant bit first; the last
    byte is filled with zeros."""
    flat = codes.to(torch.uint8).cpu().numpy().ravel()
    if bits == 8:
        return flat.tobytes()
    if bits == 4:  # two to a byte, the common case, without going through single bits
        even = flat if len(flat) % 2 == 0 else np.append(flat, np.uint8(0))
        return (even[0::2] | (even[1::2] << 4)).tobytes()
    planes = (flat[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.ravel(), bitorder="little").tobytes()


def unpack(data: memoryview, bits: int, shape: Sequence[int]) -> Tensor:
    """The codes (uint8, of `shape`) that `pack` wrote; CodecError where what fills the last byte is
    not zero."""
    raw, count = np.frombuffer(data, dtype=np.uint8), math.prod(shape)
    if bits == 8:
        codes, rest = raw.copy(), raw[count:]
    elif bits == 4:
        codes = np.stack([raw & 15, raw >> 4], axis=1).ravel()
        rest = codes[count:]
    else:
        planes = np.unpackbits(raw, bitorder="little")
        weights = (1 << np.arange(bits)).astype(np.uint8)
        own, rest = planes[: count * bits].reshape(count, bits), planes[count * bits :]
        codes = (own * weights).sum(1, dtype=np.uint8)
    if rest.any():
        raise CodecError("the bits after the last code are not zero")
    return torch.from_numpy(codes[:count]).view(*shape)


def pack_signed(codes: Tensor, bits: int) -> bytes:
    """Codes from -q to q, where q is the largest of `bits` bits: code + q, packed."""
    return pack(codes + largest_code(bits), bits)


def unpack_signed(data: memoryview, bits: int, shape: Sequence[int], codec: str) -> Tensor:
    """The codes (int16, of `shape`) that `pack_signed` wrote; CodecError for others."""
    limit = largest_code(bits)
    codes = unpack(data, bits, shape).short() - limit
    if codes.numel() and int(codes.max()) > limit:
        raise CodecError(f"{codec} payload has a code above {limit}")
    return codes
