"""MXFP4: 4-bit floating point (E2M1) in blocks of 32 channels with a power of two as scale.

    scale = 2^(floor(log2(max|x|)) - 2)    code = nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign

Source: OCP Microscaling Formats specification 1.0. Ties go to the even code, magnitudes above 6
saturate. Payload: one byte a block, the scale's exponent + 127, in order of head, token, block;
then the codes in 4 bits each (sign highest), two to a byte.
"""

import torch
from torch import Tensor

from latentwire.channel import block_scales
from latentwire.channel.codec import CodecError, check_finite
from latentwire.channel.payload_parts import check_numbers, pack, packed_bytes, unpack

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SIZE = 32
BIAS = 127
LARGEST_EXPONENT = 2  # of E2M1: 6 is 1.5 * 2^2
NOT_A_NUMBER = 255  # of the scale's byte
SIGN = 8
MANTISSA_BITS = 23  # of a float32, below its exponent


class MXFP4:
    """Microscaling 4-bit floating point."""

    bits = 4

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, exponent = _quantize(x)
        return pack(exponent + BIAS, 8) + pack(codes, self.bits)

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        scales = _scales_shape(shape)
        start = packed_bytes(scales, 8)
        biased = unpack(data[:start], 8, scales)
        if bool((biased == NOT_A_NUMBER).any()):
            raise CodecError(f"{self.name} payload has a scale that is not a number")
        codes = unpack(data[start:], self.bits, shape)
        tensor = _dequantize(codes.long(), biased.int() - BIAS)
        check_numbers(tensor, self.name)
        return tensor

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        return packed_bytes(_scales_shape(shape), 8) + packed_bytes(shape, self.bits)

    def round_trip(self, x: Tensor) -> Tensor:
        return _dequantize(*_quantize(x)).to(x.dtype)


def _scales_shape(shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    heads, tokens, head_dim = shape
    return heads, tokens, block_scales.count(head_dim, SIZE), 1


def _quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [..., D] (int64, 0 to 15) and exponents [..., blocks, 1] (int32)."""
    parts = block_scales.split(x, SIZE)
    # frexp gives max = m * 2^e with 0.5 <= m < 1, so floor(log2(max)) is e - 1, exactly.
    top = torch.frexp(parts.abs().amax(-1, keepdim=True)).exponent - 1
    exponent = (top - LARGEST_EXPONENT).clamp(-BIAS, BIAS)
    scaled = _times_power(parts, -exponent).contiguous()
    levels = torch.tensor(MAGNITUDES, device=x.device)
    middles = (levels[1:] + levels[:-1]) / 2
    # On a midpoint the even code wins: it is the upper one after an odd code.
    below, above = (torch.bucketize(scaled.abs(), middles, right=right) for right in (False, True))
    magnitude = torch.where(below % 2 == 0, below, above)
    codes = magnitude + SIGN * (scaled < 0)
    return block_scales.join(codes, x.shape[-1]), exponent


def _dequantize(codes: Tensor, exponent: Tensor) -> Tensor:
    levels = torch.tensor(MAGNITUDES, device=codes.device)
    values = levels[codes % SIGN] * torch.where(codes >= SIGN, -1.0, 1.0)
    return block_scales.join(
        _times_power(block_scales.split(values, SIZE), exponent), codes.shape[-1]
    )


def _times_power(x: Tensor, exponent: Tensor) -> Tensor:
    """x * 2^exponent, exactly: `torch.ldexp` goes through a power, which a GPU may round.

    In two factors, since 2^127 times 2^-254 is a number, but 2^-254 is none.
    """
    half = exponent >> 1
    for part in (half, exponent - half):
        x = x * ((part + BIAS) << MANTISSA_BITS).to(torch.int32).view(torch.float32)
    return x
