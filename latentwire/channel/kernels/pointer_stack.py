"""Tensors of one shape, as the kernels take them: addresses and common strides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2c.on_device import on_device

WIDE = 16  # bytes of the widest load of a thread


@dataclass(frozen=True)
class Stack:
    """N tensors [B, H, T, D] of the same shape, strides, dtype and device; D is contiguous."""

    tensors: tuple[Tensor, ...]
    addresses: Sequence[int]
    aligned: bool  # every row starts at a multiple of WIDE bytes

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
        return cls(tuple(tensors), addresses, aligned)

    @classmethod
    def empty_like(cls, other: "Stack") -> "Stack":
        """Room for as many tensors of that shape and dtype, in one piece of memory."""
        first = other.tensors[0]
        shape = (len(other.tensors), *first.shape)
        return cls.within(torch.empty(shape, dtype=first.dtype, device=first.device))

    @classmethod
    def within(cls, room: Tensor) -> "Stack":
        """The tensors of contiguous memory [N, B, H, T, D]."""
        step = room.stride(0) * room.element_size()
        start = room.data_ptr()
        addresses = range(start, start + len(room) * step, step)
        aligned = start % WIDE == 0 and room.shape[-1] * room.element_size() % WIDE == 0
        return cls(tuple(room.unbind()), addresses, aligned)


Tensors = Sequence[Tensor] | Stack


def on_their_device(first: Tensor, *rows: Sequence[int]) -> Tensor:
    """Addresses, or whatever the kernels want to know of each tensor, int64 [rows, N or N + 1] on
    the device of the first: in one copy, for which nothing waits. Each row begins at a multiple of
    WIDE bytes, so that kernels are not compiled anew for one that does not."""
    return on_device(_table(rows), first.device)


def with_more(first: Tensor, more: Tensor, *rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The same, and the numbers of `more` (int64, on the host) behind them, [count]: in one copy
    too."""
    table = _table(rows)
    whole = on_device(torch.cat([table.flatten(), more.flatten()]), first.device)
    return whole[: table.numel()].view_as(table), whole[table.numel() :]


def _table(rows: Sequence[Sequence[int]]) -> Tensor:
    fill = [0] * (len(rows[0]) % 2)
    return torch.tensor([[*row, *fill] for row in rows])
