"""FP8: 8-bit floating point, E4M3 or E5M2, with one scale per KV head over the whole section.

    scale = max(max|x| / largest, eps)    code = fp8(x / scale)    largest = 448 or 57344

Source: OCP 8-bit floating point specification (arXiv:2209.05433); torch's casts round half to even.
Payload: H float32 scales, then one byte a number.
"""

import torch
from torch import Tensor

from c2c.quantize import EPS, exact_divide
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import NOT_POSITIVE, Codes, Floats, not_positive


class FP8(Codec):
    """`fp8_e4m3` (more precision) or `fp8_e5m2` (more range)."""

    bits = 8

    def __init__(self, name: str, number: int, dtype: torch.dtype) -> None:
        self.name, self.number, self.dtype = name, number, dtype
        self.largest_code = torch.finfo(dtype).max

    def fields(self, shape: Shape) -> tuple[Floats, Codes]:
        return Floats((shape[0], 1, 1), torch.float32), Codes(shape, self.bits)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.float()
        scale = exact_divide(x.abs().amax((-2, -1), keepdim=True), self.largest_code).clamp_min(EPS)
        # Rounding in the division can leave a number a hair above the largest.
        codes = (x / scale).clamp(-self.largest_code, self.largest_code).to(self.dtype)
        return scale, codes.view(torch.uint8)

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, codes = numbers
        return codes.view(self.dtype).float() * scale

    def largest(self, *numbers: Tensor) -> Tensor:
        return self.dequantize(*numbers)

    def faults(self, *numbers: Tensor) -> list[Fault]:
        return [(not_positive(numbers[0]), NOT_POSITIVE)]
