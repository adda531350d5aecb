"""MXFP4: 4-bit floating point (E2M1) in blocks of 32 channels with a power of two as scale.

    scale = 2^(floor(log2(max|x|)) - 2)    code = nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign

Source: OCP Microscaling Formats specification 1.0. Ties go to the even code, magnitudes above 6
saturate. Payload: one byte a block, the scale's exponent + 127, in order of head, token, block;
then the codes in 4 bits each (sign highest), two to a byte.
"""

from functools import cache

import torch
from torch import Tensor

from latentwire.channel import block_scales
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import Codes

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SIZE = 32
BIAS = 127
LARGEST_EXPONENT = 2  # of E2M1: 6 is 1.5 * 2^2
NOT_A_NUMBER = 255  # of the scale's byte
SIGN = 8
MANTISSA_BITS = 23  # of a float32, below its exponent


class MXFP4(Codec):
    """Microscaling 4-bit floating point."""

    bits = 4

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def fields(self, shape: Shape) -> tuple[Codes, Codes]:
        return Codes(block_scales.field(shape, SIZE).dims, 8), Codes(shape, self.bits)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Exponents with their bias (int32) and codes (int32, 0 to 15)."""
        parts = block_scales.split(x, SIZE)
        # frexp gives max = m * 2^e with 0.5 <= m < 1, so floor(log2(max)) is e - 1, exactly.
        top = torch.frexp(parts.abs().amax(-1, keepdim=True)).exponent - 1
        exponent = (top - LARGEST_EXPONENT).clamp(-BIAS, BIAS)
        scaled = _times_power(parts, -exponent).contiguous()
        middles, size = _tables(x.device)[1], scaled.abs()
        # On a midpoint the even code wins: it is the upper one after an odd code.
        below, above = (
            torch.bucketize(size, middles, right=right, out_int32=True) for right in (False, True)
        )
        codes = torch.where(below % 2 == 0, below, above) + SIGN * (scaled < 0)
        return exponent + BIAS, block_scales.join(codes, x.shape[-1])

    def dequantize(self, *numbers: Tensor) -> Tensor:
        biased, codes = numbers
        signs = torch.where(codes >= SIGN, -1.0, 1.0)
        values = _tables(codes.device)[0][(codes % SIGN).int()] * signs
        turned = _times_power(block_scales.split(values, SIZE), biased.int() - BIAS)
        return block_scales.join(turned, codes.shape[-1])

    def faults(self, *numbers: Tensor) -> list[Fault]:
        return [(numbers[0] == NOT_A_NUMBER, "payload has a scale that is not a number")]


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """Magnitudes by code, and the middles between them."""
    levels = torch.tensor(MAGNITUDES, device=device)
    return levels, (levels[1:] + levels[:-1]) / 2


def _times_power(x: Tensor, exponent: Tensor) -> Tensor:
    """x * 2^exponent, exactly: `torch.ldexp` goes through a power, which a GPU may round.

    In two factors, since 2^127 times 2^-254 is a number, but 2^-254 is none.
    """
    half = exponent >> 1
    for part in (half, exponent - half):
        x = x * ((part + BIAS) << MANTISSA_BITS).to(torch.int32).view(torch.float32)
    return x
