"""Symmetric integers with one scale for each block of channels of each token and head.

    scale = float16(max|x| / q)    code = clamp(round(x / scale), -q, q)    q = 2^(bits-1) - 1

A block is `size` consecutive channels: with a block as wide as the head it is the per-token
quantizer, with 32 the group-wise one of 4-bit weight formats. A large channel then spoils its own
block of its own token and nothing else, at 16 / size bits more a number.

Payload: float16 scales in order of head, token, block; then code + q in `bits` bits each, packed as
in `payload_parts`, channels past the last block's end left out.
"""

import torch
from torch import Tensor

from c2c.quantize import largest_code
from latentwire.channel import block_scales
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import NOT_POSITIVE, Codes, Floats, not_positive

WHOLE_HEAD = 0  # block size that means: all of head_dim


class Grouped(Codec):
    """int8 or int4 with scales by token, or by token and group of channels."""

    bits: int

    def __init__(self, name: str, number: int, bits: int, size: int) -> None:
        self.name, self.number, self.bits, self.size = name, number, bits, size

    def fields(self, shape: Shape) -> tuple[Floats, Codes]:
        return block_scales.field(shape, self._size(shape[-1])), Codes.signed(shape, self.bits)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        limit = largest_code(self.bits)
        parts = block_scales.split(x, self._size(x.shape[-1]))
        scale = block_scales.half_scale(parts, limit)
        codes = torch.round(parts / scale.float()).clamp(-limit, limit) + 0.0  # -0 is no code
        return scale, block_scales.join(codes, x.shape[-1])

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, codes = numbers
        parts = block_scales.split(codes, self._size(codes.shape[-1]))
        return block_scales.join(parts * scale.float(), codes.shape[-1])

    def faults(self, *numbers: Tensor) -> list[Fault]:
        return [(not_positive(numbers[0]), NOT_POSITIVE)]

    def _size(self, head_dim: int) -> int:
        return self.size or head_dim
