"""Where Triton's kernels run: on CUDA, and on a CPU in its interpreter, for tests."""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

SHORT = (torch.bfloat16, torch.float16)


@cache
def available() -> bool:
    """Whether Triton is there."""
    return find_spec("triton") is not None


@cache
def interpreted() -> bool:
    """Whether Triton interprets kernels, on tensors of the CPU, instead of compiling them."""
    if not available():
        return False
    from triton import knobs

    return bool(knobs.runtime.interpret)


def kernels_run(tensor: Tensor) -> bool:
    """Whether kernels can be launched on a tensor like this one."""
    return available() and (tensor.is_cuda or interpreted())


def power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`: blocks have such sizes."""
    return 1 << (count - 1).bit_length()
