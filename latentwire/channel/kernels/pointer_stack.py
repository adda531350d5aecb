"""Tensors of one shape, as the kernels take them: addresses and common strides."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from c2c.on_device import on_device

WIDE = 16  # bytes of the widest load of a thread
MOST_KEPT = 1 << 10  # rows that devices were told


@dataclass(frozen=True)
class Stack:
    """N tensors [B, H, T, D] of the same shape, strides, dtype and device; D is contiguous."""

    tensors: Sequence[Tensor] | Tensor  # several, or the parts [N, ...] of one
    addresses: Sequence[int]
    aligned: bool  # every row starts at a multiple of WIDE bytes

    @cached_property
    def first(self) -> Tensor:
        return self.tensors[0]

    @classmethod
    def of(cls, tensors: "Sequence[Tensor] | Stack") -> "Stack":
        """The stack of these tensors; ValueError where they differ in more than their numbers."""
        if isinstance(tensors, Stack):
            return tensors
        first = tensors[0]
        kind = (first.shape, first.stride(), first.dtype, first.device)
        if any((t.shape, t.stride(), t.dtype, t.device) != kind for t in tensors):
            raise ValueError("the tensors of a stack differ in shape, strides, dtype or device")
        if first.ndim != 4 or first.stride(-1) != 1 or first.numel() == 0:
            raise ValueError(f"a stack holds [B, H, T, D] with D contiguous, not {first.shape}")
        return cls.alike(tensors)

    @classmethod
    def alike(cls, tensors: Sequence[Tensor]) -> "Stack":
        """The same of tensors of which it is known."""
        first = tensors[0]
        addresses = [tensor.data_ptr() for tensor in tensors]
        steps = [first.element_size() * stride for stride in first.stride()[:3]]
        aligned = all(number % WIDE == 0 for number in addresses + steps)
        return cls(tensors, addresses, aligned)

    @classmethod
    def empty_like(cls, other: "Stack") -> "Stack":
        """Room for as many tensors of that shape and dtype, in one piece of memory."""
        shape = (len(other.tensors), *other.first.shape)
        return cls.within(other.first.new_empty(shape))

    @classmethod
    def within(cls, room: Tensor) -> "Stack":
        """The parts of memory [N, B, H, T, D], no two at one place."""
        start, *steps = room.data_ptr(), *(room.element_size() * n for n in room.stride()[:4])
        addresses = range(start, start + len(room) * steps[0], steps[0])
        return cls(room, addresses, all(number % WIDE == 0 for number in (start, *steps)))


Tensors = Sequence[Tensor] | Stack


def on_their_device(first: Tensor, *rows: Sequence[int]) -> list[Tensor]:
    """Addresses, or whatever the kernels want to know of each tensor, int64 [N] a row, on the
    device of the first; nothing waits for them. They are kept: a sender uses the same memory again
    and again, and places in packets are those of their layout."""
    # What one stream was told, another could read before it is there.
    stream = torch.cuda.current_stream(first.device).cuda_stream if first.is_cuda else 0
    return [
        _told(row if isinstance(row, range) else tuple(row), first.device, stream) for row in rows
    ]


@lru_cache(MOST_KEPT)
def _told(row: Sequence[int], device: torch.device, stream: int) -> Tensor:
    return on_device(torch.tensor(row), device)
