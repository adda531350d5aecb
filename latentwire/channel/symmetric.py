"""Symmetric integers, the protocol's quantizer: one scale per KV head or per layer's tensor.

    scale = max(max|x| / q, eps)    code = clamp(round(x / scale), -q, q)    q = 2^(bits-1) - 1

Payload: the scales as float32 (H of them, or one), then code + q in `bits` bits each, packed
without gaps from the least significant bit up; the last byte is filled with zeros. Two int4 codes
share a byte. Source of the formula: the published PTQ hook, see `c2c.quantize`.
"""

import torch
from torch import Tensor

from c2c.quantize import dequantize, largest_code, quantize, round_trip
from latentwire.channel.codec import CodecError, check_finite, check_held
from latentwire.channel.payload_parts import (
    FLOAT32,
    float_bytes,
    pack_signed,
    packed_bytes,
    read_floats,
    unpack_signed,
)


class Symmetric:
    """int8, int4, int3 or int2 with scales by `head` or by `layer`."""

    def __init__(self, name: str, number: int, bits: int, axis: str) -> None:
        self.name, self.number, self.bits, self.axis = name, number, bits, axis

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, scale = quantize(x[None], self.bits, self.axis)
        check_held(scale * largest_code(self.bits), self.name)
        return float_bytes(scale, FLOAT32) + pack_signed(codes, self.bits)

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        start = self._scales_bytes(shape)
        scale = read_floats(data[:start], FLOAT32).view(-1, 1, 1)
        if not bool(((scale > 0) & torch.isfinite(scale * largest_code(self.bits))).all()):
            raise CodecError(f"{self.name} payload has a scale that no finite numbers have")
        codes = unpack_signed(data[start:], self.bits, shape, self.name)
        return dequantize(codes, scale, torch.float32)

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        return self._scales_bytes(shape) + packed_bytes(shape, self.bits)

    def round_trip(self, x: Tensor) -> Tensor:
        return round_trip(x, self.bits, self.axis)

    def _scales_bytes(self, shape: tuple[int, int, int]) -> int:
        return 4 * (shape[0] if self.axis == "head" else 1)
