"""Where Triton's kernels run: on CUDA, and on a CPU in its interpreter, for tests."""

from functools import cache
from importlib.util import find_spec

from torch import Tensor


def kernels_run(tensor: Tensor) -> bool:
    """Whether kernels can be launched on a tensor like this one."""
    return _there() and (tensor.is_cuda or _interpreted())


@cache
def _there() -> bool:
    return find_spec("triton") is not None


@cache
def _interpreted() -> bool:
    from triton import knobs

    return bool(knobs.runtime.interpret)


def power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`: blocks have such sizes."""
    return 1 << (count - 1).bit_length()
