"""Rows of bytes of the host, packets, on their way out of one piece of memory and into another."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import overload

import numpy as np
import torch
from torch import Tensor

Buffer = bytes | memoryview
SHORT = 1 << 17  # bytes of a row that one core copies before others are awake


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Buffer]):
    """Packets of one length at even distances in one buffer. Nobody has to look where each of them
    lies, and all of them are copied in one go; of others each copy has to wake the cores up."""

    memory: np.ndarray  # uint8 [rows, length], of which the rows may lie apart

    def __len__(self) -> int:
        return len(self.memory)

    @overload
    def __getitem__(self, row: int) -> memoryview: ...
    @overload
    def __getitem__(self, row: slice) -> "Rows": ...
    def __getitem__(self, row: int | slice) -> "memoryview | Rows":
        own = self.memory[row]
        return Rows(own) if isinstance(row, slice) else own.data.toreadonly()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]  # the memory may change


def copy_rows(rows: Sequence[Buffer], into: Tensor) -> None:
    """Copy rows of one length into uint8 [rows, length] on the host, whose rows may lie apart."""
    _say_once_that_bytes_are_not_written()
    if isinstance(rows, Rows):
        into.copy_(torch.from_numpy(rows.memory))
    elif into.shape[1] < SHORT:
        for row, data in zip(into.numpy(), rows, strict=True):
            row[:] = np.frombuffer(data, np.uint8)
    else:
        sent = [torch.frombuffer(data, dtype=torch.uint8) for data in rows]
        torch._foreach_copy_([*into.unbind()], sent)


def without(rows: Sequence[Buffer], front: bytes) -> Sequence[Buffer] | None:
    """Rows of one length without what all of them begin with; None where one begins otherwise."""
    start = len(front)
    if isinstance(rows, Rows):
        same = (rows.memory[:, :start] == np.frombuffer(front, np.uint8)).all()
        return Rows(rows.memory[:, start:]) if same else None
    if any(each[:start] != front for each in rows):
        return None
    return [memoryview(each)[start:] for each in rows]


@cache
def _say_once_that_bytes_are_not_written() -> None:
    """Torch warns of what it must not write to, once a process; nothing here writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.frombuffer(b"\0", dtype=torch.uint8)
        torch.from_numpy(np.frombuffer(b"\0", np.uint8))
