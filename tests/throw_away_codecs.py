"""Codecs that are not shipped: they show what the seam carries."""

import torch
from torch import Tensor

from latentwire.channel.block_scales import EPS
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.grouped import Grouped
from latentwire.channel.payload_parts import NOT_POSITIVE, Codes, Floats, not_positive
from latentwire.channel.symmetric import Symmetric


class Sign(Codec):
    """A bit a number, and half of each token's largest magnitude: no code stands for zero."""

    keeps_flat = False

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number, self.bits = name, number, 1

    def fields(self, shape: Shape) -> tuple[Floats, Codes]:
        return Floats((*shape[:2], 1), torch.float32), Codes(shape, 1)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        largest = x.float().abs().amax(-1, keepdim=True)
        return (largest / 2).clamp_min(EPS), x >= 0

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, codes = numbers
        return (codes.float() * 2 - 1) * scale

    def faults(self, *numbers: Tensor) -> list[Fault]:
        return [(not_positive(numbers[0]), NOT_POSITIVE)]


_ALL: tuple[Codec, ...] = (
    Symmetric("int5", 73, 5, "head"),
    Symmetric("int7_layer", 74, 7, "layer"),
    Grouped("int6_group", 75, 6, 32),
    Sign("sign1", 76),
)
MADE = {codec.name: codec for codec in _ALL}
