"""Symmetric integers, the protocol's quantizer: one scale per KV head or per layer's tensor.

    scale = max(max|x| / q, eps)    code = clamp(round(x / scale), -q, q)    q = 2^(bits-1) - 1

Payload: the scales as float32 (H of them, or one), then code + q in `bits` bits each, packed
without gaps from the least significant bit up; the last byte is filled with zeros. Two int4 codes
share a byte. Source of the formula: the published PTQ hook, see `c2c.quantize`.
"""

import numpy as np
import torch
from torch import Tensor

from c2c.quantize import dequantize, largest_code, quantize, round_trip
from latentwire.channel.codec import CodecError, check_finite, check_held


class Symmetric:
    """int8, int4, int3 or int2 with scales by `head` or by `layer`."""

    def __init__(self, name: str, number: int, bits: int, axis: str) -> None:
        self.name, self.number, self.bits, self.axis = name, number, bits, axis

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, scale = quantize(x[None], self.bits, self.axis)
        check_held(scale * largest_code(self.bits), self.name)
        unsigned = (codes + largest_code(self.bits)).cpu().numpy().astype(np.uint8)
        return scale.flatten().cpu().numpy().astype("<f4").tobytes() + pack(unsigned, self.bits)

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        heads, tokens, head_dim = shape
        scales = heads if self.axis == "head" else 1
        limit = largest_code(self.bits)
        raw = np.frombuffer(data[: 4 * scales], dtype="<f4").astype(np.float32)
        scale = torch.from_numpy(raw).view(1, scales, 1, 1)
        if not bool(((scale > 0) & torch.isfinite(scale * limit)).all()):
            raise CodecError(f"{self.name} payload has a scale that no finite numbers have")
        unsigned = unpack(data[4 * scales :], self.bits, heads * tokens * head_dim)
        if unsigned.max(initial=0) > 2 * limit:
            raise CodecError(f"{self.name} payload has a code above {limit}")
        codes = torch.from_numpy(unsigned.astype(np.int16) - limit).view(1, *shape)
        return dequantize(codes, scale, torch.float32)[0]

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        heads, tokens, head_dim = shape
        scales = heads if self.axis == "head" else 1
        return 4 * scales + -(-heads * tokens * head_dim * self.bits // 8)

    def round_trip(self, x: Tensor) -> Tensor:
        return round_trip(x, self.bits, self.axis)


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Unsigned codes (uint8, any shape) in `bits` bits each, least significant bit first."""
    if bits == 8:
        return codes.tobytes()
    if bits == 4:  # two to a byte, the common case, without going through single bits
        flat = codes.ravel()
        even = flat if len(flat) % 2 == 0 else np.append(flat, np.uint8(0))
        return (even[0::2] | (even[1::2] << 4)).tobytes()
    planes = (codes.ravel()[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.ravel(), bitorder="little").tobytes()


def unpack(data: memoryview, bits: int, count: int) -> np.ndarray:
    """The `count` codes (uint8 [count]) that `pack` wrote; the padding must be zero."""
    raw = np.frombuffer(data, dtype=np.uint8)
    if bits == 8:
        return raw[:count]
    if bits == 4:
        codes = np.stack([raw & 15, raw >> 4], axis=1).ravel()
    else:
        planes = np.unpackbits(raw, bitorder="little")
        if planes[count * bits :].any():
            raise CodecError("the bits after the last code are not zero")
        weights = (1 << np.arange(bits)).astype(np.uint8)
        return (planes[: count * bits].reshape(count, bits) * weights).sum(1, dtype=np.uint8)
    if codes[count:].any():
        raise CodecError("the bits after the last code are not zero")
    return codes[:count]
