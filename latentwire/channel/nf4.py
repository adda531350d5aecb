"""NF4: sixteen levels at the quantiles of a normal distribution, scaled by each block's maximum.

    scale = float16(max|x|) of 32 channels of a token and head    code = nearest level to x / scale

Source of the levels: QLoRA (Dettmers et al., arXiv:2305.14314), appendix E. Payload: float16 scales
in order of head, token, block; then the codes in 4 bits each, two to a byte.
"""

from functools import cache

import torch
from torch import Tensor

from latentwire.channel import block_scales
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import NOT_POSITIVE, Codes, Floats, not_positive

LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
# A number goes to the level above a middle when it lies past it.
MIDDLES = tuple(((torch.tensor(LEVELS[1:]) + torch.tensor(LEVELS[:-1])) / 2).tolist())
SIZE = 32


class NF4(Codec):
    """4-bit NormalFloat in blocks of 32 channels."""

    bits = 4

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def fields(self, shape: Shape) -> tuple[Floats, Codes]:
        return block_scales.field(shape, SIZE), Codes(shape, self.bits)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = block_scales.split(x, SIZE)
        scale = block_scales.half_scale(parts, 1.0)
        scaled = (parts / scale.float()).contiguous()
        codes = torch.bucketize(scaled, _table(MIDDLES, x.device), out_int32=True)
        return scale, block_scales.join(codes, x.shape[-1])

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, codes = numbers
        values = block_scales.split(_table(LEVELS, codes.device)[codes.int()], SIZE)
        return block_scales.join(values * scale.float(), codes.shape[-1])

    def faults(self, *numbers: Tensor) -> list[Fault]:
        return [(not_positive(numbers[0]), NOT_POSITIVE)]


@cache
def _table(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, device=device)
