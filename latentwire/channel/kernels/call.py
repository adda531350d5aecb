"""What a launch of kernels is given, whatever their rule."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.rules import KernelSpec


@dataclass(frozen=True)
class Call:
    """`places`, `sizes` and `types` as the kernels take them, see `scale_kernels`."""

    rule: KernelSpec
    stack: Stack  # what is read, or what `restore` fills
    places: tuple[Any, ...]  # its addresses, and of payloads or values
    broken: Tensor | None
    sizes: tuple[int, ...]
    types: dict[str, Any]
    means: tuple[Any, ...]  # what `mean_rows` wants to know of them
    tuning: dict[str, Any]
    third: int  # where a payload's third field begins, where it has one
    largest_mean: float = 0.0

    @property
    def tokens(self) -> int:
        return self.stack.first.shape[2]

    @property
    def head_dim(self) -> int:
        return self.stack.first.shape[3]
