"""Raw floating point: the cache as it is, in 16 or 32 bits a number, little-endian.

Lossless for a model that runs in the same type.
"""

import torch
from torch import Tensor

from latentwire.channel.codec import check_finite, check_held
from latentwire.channel.payload_parts import check_numbers, packed_bytes


class Raw:
    """bf16, fp16 or fp32, without scales."""

    def __init__(self, name: str, number: int, dtype: torch.dtype) -> None:
        self.name, self.number, self.dtype = name, number, dtype
        self.bits = torch.finfo(dtype).bits

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        cast = x.to(self.dtype)
        check_held(cast, self.name)  # fp16 ends at 65504
        return cast.contiguous().cpu().view(torch.uint8).numpy().tobytes()

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        tensor = torch.frombuffer(bytearray(data), dtype=self.dtype).view(shape).float()
        check_numbers(tensor, self.name)
        return tensor

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        return packed_bytes(shape, self.bits)

    def round_trip(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).to(x.dtype)
