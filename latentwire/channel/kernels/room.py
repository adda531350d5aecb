"""Where payloads stand in memory: kernels write them into packets, and read them there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from latentwire.channel.codec import Codec, Shape
from latentwire.channel.kernels.pointer_stack import WIDE

LEAST = 4  # of the words that kernels store


@dataclass(frozen=True)
class Room:
    """Payloads of N tensors and B examples: tensor n's of example b begins `starts[n] + b * stride`
    bytes behind the beginning of `memory`, and each of its fields `fields[f]` bytes behind that."""

    memory: Tensor  # uint8
    starts: Sequence[int]
    stride: int
    fields: Sequence[int]

    @classmethod
    def new(
        cls, codec: Codec, count: int, batch: int, shape: Shape, device: torch.device
    ) -> "Room":
        """Memory of its own for `count` tensors [B, H, T, D], with gaps that keep it aligned."""
        begins = [0]
        for each in codec.fields(shape):
            begins.append(begins[-1] + -(-each.length // WIDE) * WIDE)
        *fields, size = begins
        memory = torch.empty(count, batch, size, dtype=torch.uint8, device=device)
        return cls(memory, range(0, memory.numel(), batch * size), size, fields)

    def parts(self, codec: Codec, shape: Shape) -> list[Tensor]:
        """Each field's bytes, uint8 [N, B, length], of what `new` made."""
        lengths = [each.length for each in codec.fields(shape)]
        return [
            self.memory[..., begin : begin + length]
            for begin, length in zip(self.fields, lengths, strict=True)
        ]

    def of(self, places: Sequence[int]) -> "Room":
        """Of some of the tensors."""
        return replace(self, starts=[self.starts[place] for place in places])

    @cached_property
    def word(self) -> int:
        """Bytes, up to WIDE, of which all places are multiples."""
        return math.gcd(WIDE, self.memory.data_ptr(), self.stride, *self.starts, *self.fields)
