"""Symmetric integers, the protocol's quantizer: one scale per KV head or per layer's tensor.

    scale = max(max|x| / q, eps)    code = clamp(round(x / scale), -q, q)    q = 2^(bits-1) - 1

Payload: the scales as float32 (H of them, or one), then code + q in `bits` bits each, packed
without gaps from the least significant bit up; the last byte is filled with zeros. Two int4 codes
share a byte. Source of the formula: the published PTQ hook, see `c2c.quantize`.
"""

import torch
from torch import Tensor

from c2c.quantize import dequantize, largest_code, quantize
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import Codes, Floats


class Symmetric(Codec):
    """int8, int4, int3 or int2 (of 2 to 8 bits) with scales by `head` or by `layer`."""

    bits: int

    def __init__(self, name: str, number: int, bits: int, axis: str) -> None:
        self.name, self.number, self.bits, self.axis = name, number, bits, axis

    def fields(self, shape: Shape) -> tuple[Floats, Codes]:
        scales = (shape[0] if self.axis == "head" else 1, 1, 1)
        return Floats(scales, torch.float32), Codes.signed(shape, self.bits)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codes, scale = quantize(x, self.bits, self.axis)
        return scale, codes

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, codes = numbers
        return dequantize(codes, scale, torch.float32)

    def largest(self, *numbers: Tensor) -> Tensor:
        return numbers[0] * largest_code(self.bits)

    def faults(self, *numbers: Tensor) -> list[Fault]:
        sent = (numbers[0] > 0) & torch.isfinite(self.largest(*numbers))
        return [(~sent, "payload has a scale that no finite numbers have")]
