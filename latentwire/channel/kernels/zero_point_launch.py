"""Launches of `zero_point_kernels`."""

from typing import Any

import torch
from torch import Tensor

from latentwire.channel.kernels.call import Call
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.programs import grid, tuned, type_of, whole_head
from latentwire.channel.kernels.rules import KernelSpec

TILES = 4  # of a program that looks for extremes


def quantize(call: Call) -> None:
    from latentwire.channel.kernels import zero_point_kernels

    rows, warps, steps = tuned(call.head_dim, **call.tuning)
    found = None
    if call.rule.over_tokens:
        if whole := whole_head(call.tokens, call.head_dim, **call.tuning):
            rows, warps = whole
        else:
            found = _extremes(call.stack, call.places[0], rows, warps)
    shape = {"LIMIT": call.rule.limit, "EPS": call.rule.eps, "CORRECTIONS": 1 if steps else 0}
    zero_point_kernels.quantize[grid(call.stack, rows)](
        *call.places, found, call.broken, *call.sizes,
        **_shape_of(call.rule, call.head_dim, rows), **shape, **call.types, num_warps=warps,
    )  # fmt: skip


def restore(call: Call) -> None:
    from latentwire.channel.kernels import zero_point_kernels

    rows, warps, _ = tuned(call.head_dim, **call.tuning)
    zero_point_kernels.restore[grid(call.stack, rows)](
        *call.places, call.broken, *call.sizes, **_shape_of(call.rule, call.head_dim, rows),
        **call.types, num_warps=warps,
    )  # fmt: skip


def _extremes(source: Stack, pointers: Tensor, rows: int, warps: int) -> Tensor:
    """Largest number and largest complement of each head's channels, int32 [N, B, H, 2, D]."""
    from latentwire.channel.kernels import zero_point_kernels

    first = source.first
    batch, heads, _, head_dim = first.shape
    shape = (len(source.tensors), batch, heads, 2, head_dim)
    least = zero_point_kernels.LEAST.value
    found = torch.full(shape, least, dtype=torch.int32, device=first.device)
    zero_point_kernels.extremes[grid(source, rows * TILES)](
        pointers, found, *first.shape[:3], *first.stride()[:3], D=head_dim, ROWS=rows,
        TILES=TILES, TYPE=type_of(first.dtype), ALIGNED=source.aligned, num_warps=warps,
    )  # fmt: skip
    return found


def _shape_of(rule: KernelSpec, head_dim: int, rows: int) -> dict[str, Any]:
    return {"D": head_dim, "ROWS": rows, "BITS": rule.bits, "AXIS": rule.scales}
