"""FP8: 8-bit floating point, E4M3 or E5M2, with one scale per KV head over the whole section.

    scale = max(max|x| / largest, eps)    code = fp8(x / scale)    largest = 448 or 57344

Source: OCP 8-bit floating point specification (arXiv:2209.05433); torch's casts round half to even.
Payload: H float32 scales, then one byte a number.
"""

import torch
from torch import Tensor

from c2c.quantize import EPS, exact_divide
from latentwire.channel.codec import check_finite, check_held
from latentwire.channel.payload_parts import (
    FLOAT32,
    check_numbers,
    check_scales,
    float_bytes,
    pack,
    packed_bytes,
    read_floats,
    unpack,
)


class FP8:
    """`fp8_e4m3` (more precision) or `fp8_e5m2` (more range)."""

    bits = 8

    def __init__(self, name: str, number: int, dtype: torch.dtype) -> None:
        self.name, self.number, self.dtype = name, number, dtype
        self.largest = torch.finfo(dtype).max

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, scale = self._quantize(x)
        check_held(codes.float() * scale, self.name)
        return float_bytes(scale, FLOAT32) + pack(codes.view(torch.uint8), self.bits)

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        start = 4 * shape[0]
        scale = read_floats(data[:start], FLOAT32).view(-1, 1, 1)
        check_scales(scale, self.name)
        tensor = unpack(data[start:], self.bits, shape).view(self.dtype).float() * scale
        check_numbers(tensor, self.name)
        return tensor

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        return 4 * shape[0] + packed_bytes(shape, self.bits)

    def round_trip(self, x: Tensor) -> Tensor:
        codes, scale = self._quantize(x)
        return (codes.float() * scale).to(x.dtype)

    def _quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes in FP8 and float32 scales [..., H, 1, 1]."""
        x = x.float()
        scale = exact_divide(x.abs().amax((-2, -1), keepdim=True), self.largest).clamp_min(EPS)
        # Rounding in the division can leave a number a hair above the largest.
        return (x / scale).clamp(-self.largest, self.largest).to(self.dtype), scale
