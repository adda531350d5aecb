"""Rows of bytes of the host, packets that have arrived, on their way into one piece of memory.

Those that lie at even distances in one buffer, as `packet.encode_batch` gives them, can be copied
in one go, by all cores. Of others each copy has to wake the cores up.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Buffer = bytes | memoryview
SHORT = 1 << 17  # bytes of a row that one core copies before others are awake


def copy_rows(rows: Sequence[Buffer], into: Tensor) -> None:
    """Copy rows of one length into uint8 [rows, length] on the host, whose rows may lie apart."""
    if into.shape[1] < SHORT:
        for row, data in zip(into.numpy(), rows, strict=True):
            row[:] = np.frombuffer(data, np.uint8)
    else:
        torch._foreach_copy_([*into.unbind()], [_tensor(data) for data in rows])


def in_one_buffer(rows: Sequence[Buffer]) -> Tensor | None:
    """Rows of one length, at least a byte, as uint8 [rows, length], where they are parts of one
    buffer at even distances; else None."""
    first = rows[0]
    if not isinstance(first, memoryview) or len(rows) < 2:
        return None
    owner: Any = first.obj
    if any(not isinstance(each, memoryview) or each.obj is not owner for each in rows):
        return None
    places = [_tensor(each).data_ptr() for each in rows]
    start, apart = places[0], places[1] - places[0]
    if apart < len(first) or places != [*range(start, start + apart * len(rows), apart)]:
        return None
    if not memoryview(owner).c_contiguous:
        return None
    whole = _tensor(owner)
    return whole.as_strided((len(rows), len(first)), (apart, 1), start - whole.data_ptr())


def _tensor(data: Buffer) -> Tensor:
    """What stands there, uint8 [bytes]; nothing here writes to it."""
    _say_once_that_bytes_are_not_written()
    return torch.frombuffer(data, dtype=torch.uint8)


@cache
def _say_once_that_bytes_are_not_written() -> None:
    """Torch warns of `bytes`, which it must not write to, once a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.frombuffer(b"\0", dtype=torch.uint8)
