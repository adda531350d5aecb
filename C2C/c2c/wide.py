"""Moving numbers of a cache without looking at them, sixteen bytes at a time.

A GPU's kernels for copies along strides and for indexing take one number after the other, so that
16-bit numbers move at a fraction of the speed of memory. Eight of them as one number of the widest
type are moved as quickly as one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_WIDE = (torch.complex128, torch.int64)  # a copy keeps every bit


def put(target: Tensor, index: Any, source: Tensor) -> None:
    """`target[index] = source`, for an index of all dimensions but the last."""
    target, source = _widened([target, source])
    target[index] = source


def clear(target: Tensor, index: Any) -> None:
    """`target[index] = 0`, likewise."""
    (wide,) = _widened([target])
    wide[index] = 0


def take(source: Tensor, index: Any) -> Tensor:
    """`source[index]`, copied, for an index of all dimensions but the last."""
    (wide,) = _widened([source])
    taken: Tensor = wide[index]
    return taken.view(source.dtype)


def contiguous(tensor: Tensor) -> Tensor:
    """`tensor.contiguous()`."""
    (wide,) = _widened([tensor])
    return wide.contiguous().view(tensor.dtype)


def _widened(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tensors [..., D] as fewer numbers of a wide type; as they are where they differ in type,
    or where one does not lie in memory so."""
    if len({tensor.dtype for tensor in tensors}) == 1:
        for wide in _WIDE:
            if all(_fits(tensor, wide) for tensor in tensors):
                return [tensor.view(wide) for tensor in tensors]
    return tensors


def _fits(tensor: Tensor, wide: torch.dtype) -> bool:
    size, (*strides, last) = tensor.element_size(), tensor.stride()
    counts = (*strides, tensor.shape[-1], tensor.storage_offset())
    return last == 1 and all(count * size % wide.itemsize == 0 for count in counts)
