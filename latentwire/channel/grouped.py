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
from latentwire.channel.codec import check_finite
from latentwire.channel.payload_parts import (
    FLOAT16,
    float_bytes,
    pack_signed,
    packed_bytes,
    unpack_signed,
)

WHOLE_HEAD = 0  # block size that means: all of head_dim


class Grouped:
    """int8 or int4 with scales by token, or by token and group of channels."""

    def __init__(self, name: str, number: int, bits: int, size: int) -> None:
        self.name, self.number, self.bits, self.size = name, number, bits, size

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, scale = self._quantize(x)
        return float_bytes(scale, FLOAT16) + pack_signed(codes, self.bits)

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        size = self._size(shape[-1])
        scale = block_scales.decode_scales(data, shape, size, self.name)
        packed = data[block_scales.scales_bytes(shape, size) :]
        return self._dequantize(unpack_signed(packed, self.bits, shape, self.name), scale)

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        size = self._size(shape[-1])
        return block_scales.scales_bytes(shape, size) + packed_bytes(shape, self.bits)

    def round_trip(self, x: Tensor) -> Tensor:
        return self._dequantize(*self._quantize(x)).to(x.dtype)

    def _size(self, head_dim: int) -> int:
        return self.size or head_dim

    def _quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [..., D] (float32) and scales [..., blocks, 1] (float16)."""
        limit = largest_code(self.bits)
        parts = block_scales.split(x, self._size(x.shape[-1]))
        scale = block_scales.half_scale(parts, limit)
        codes = torch.round(parts / scale.float()).clamp(-limit, limit) + 0.0  # -0 is no code
        return block_scales.join(codes, x.shape[-1]), scale

    def _dequantize(self, codes: Tensor, scale: Tensor) -> Tensor:
        parts = block_scales.split(codes, self._size(codes.shape[-1]))
        return block_scales.join(parts * scale.float(), codes.shape[-1])
