"""NF4: sixteen levels at the quantiles of a normal distribution, scaled by each block's maximum.

    scale = float16(max|x|) of 32 channels of a token and head    code = nearest level to x / scale

Source of the levels: QLoRA (Dettmers et al., arXiv:2305.14314), appendix E. Payload: float16 scales
in order of head, token, block; then the codes in 4 bits each, two to a byte.
"""

import torch
from torch import Tensor

from latentwire.channel import block_scales
from latentwire.channel.codec import check_finite
from latentwire.channel.payload_parts import FLOAT16, float_bytes, pack, packed_bytes, unpack

LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
# A number goes to the level above a middle when it lies past it.
MIDDLES = tuple(((torch.tensor(LEVELS[1:]) + torch.tensor(LEVELS[:-1])) / 2).tolist())
SIZE = 32


class NF4:
    """4-bit NormalFloat in blocks of 32 channels."""

    bits = 4

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, scale = _quantize(x)
        return float_bytes(scale, FLOAT16) + pack(codes, self.bits)

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        scale = block_scales.decode_scales(data, shape, SIZE, self.name)
        packed = data[block_scales.scales_bytes(shape, SIZE) :]
        return _dequantize(unpack(packed, self.bits, shape).long(), scale)

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        return block_scales.scales_bytes(shape, SIZE) + packed_bytes(shape, self.bits)

    def round_trip(self, x: Tensor) -> Tensor:
        return _dequantize(*_quantize(x)).to(x.dtype)


def _quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [..., D] (int64, 0 to 15) and scales [..., blocks, 1] (float16)."""
    parts = block_scales.split(x, SIZE)
    scale = block_scales.half_scale(parts, 1.0)
    scaled = (parts / scale.float()).contiguous()
    codes = torch.bucketize(scaled, torch.tensor(MIDDLES, device=x.device))
    return block_scales.join(codes, x.shape[-1]), scale


def _dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    values = torch.tensor(LEVELS, device=codes.device)[codes]
    return block_scales.join(block_scales.split(values, SIZE) * scale.float(), codes.shape[-1])
