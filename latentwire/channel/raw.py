"""Raw floating point: the cache as it is, in 16 or 32 bits a number, little-endian.

Lossless for a model that runs in the same type.
"""

import torch
from torch import Tensor

from latentwire.channel.codec import Codec, Shape
from latentwire.channel.payload_parts import Floats


class Raw(Codec):
    """bf16, fp16 or fp32, without scales."""

    def __init__(self, name: str, number: int, dtype: torch.dtype) -> None:
        self.name, self.number, self.dtype = name, number, dtype
        self.bits = torch.finfo(dtype).bits

    def fields(self, shape: Shape) -> tuple[Floats]:
        return (Floats(shape, self.dtype),)

    def quantize(self, x: Tensor) -> tuple[Tensor]:
        return (x.to(self.dtype),)

    def dequantize(self, *numbers: Tensor) -> Tensor:
        return numbers[0].float()

    def largest(self, *numbers: Tensor) -> Tensor:
        return numbers[0]  # fp16 ends at 65504

    def keeps(self, dtype: torch.dtype) -> bool:
        return torch.promote_types(dtype, self.dtype) == self.dtype

    def round_trip(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).to(x.dtype)
