"""Launches of kernels that want to know no more than all do: `float_kernels`, `mxfp4_kernels`."""

from typing import Any

from latentwire.channel.kernels.call import Call
from latentwire.channel.kernels.programs import grid, tuned, type_of


def quantize(call: Call) -> None:
    kernels, rows, shape = _kernels(call)
    kernels.quantize[grid(call.stack, rows)](
        *call.places, call.broken, *call.sizes, **shape, **call.types
    )


def restore(call: Call) -> None:
    kernels, rows, shape = _kernels(call)
    kernels.restore[grid(call.stack, rows)](
        *call.places, call.broken, *call.sizes, **shape, **call.types
    )


def _kernels(call: Call) -> tuple[Any, int, dict[str, Any]]:
    """The rule's, rows of a program, and how these are held."""
    from latentwire.channel.kernels import float_kernels, mxfp4_kernels

    rows, warps, _ = tuned(call.head_dim, **call.tuning)
    shape = {"D": call.head_dim, "ROWS": rows, "num_warps": warps}
    if call.rule.dtype is None:
        return mxfp4_kernels, rows, shape
    return float_kernels, rows, shape | {"FLOAT": type_of(call.rule.dtype)}
