"""Launches of `zero_point_kernels`, for `launch`."""

from typing import Any

import torch
from torch import Tensor

from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.programs import grid, tuned, type_of, whole_head
from latentwire.channel.kernels.rules import KernelSpec

TILES = 4  # of a program that looks for extremes

Arguments = tuple[Any, ...]


def quantize(
    rule: KernelSpec, source: Stack, sent: Arguments, broken: Tensor | None, sizes: Arguments,
    types: dict[str, Any], **tuning: Any,
) -> None:  # fmt: skip
    """`sent`: the source's addresses, and where payloads or values go."""
    from latentwire.channel.kernels import zero_point_kernels

    *_, tokens, head_dim = source.first.shape
    rows, warps, steps = tuned(head_dim, **tuning)
    found = None
    if rule.over_tokens:
        if whole := whole_head(tokens, head_dim, **tuning):
            rows, warps = whole
        else:
            found = _extremes(source, sent[0], rows, warps)
    shape = {"LIMIT": rule.limit, "CORRECTIONS": 1 if steps else 0}
    zero_point_kernels.quantize[grid(source, rows)](
        *sent, found, broken, *sizes, **_shape_of(rule, head_dim, rows), **shape, **types,
        num_warps=warps,
    )  # fmt: skip


def restore(
    rule: KernelSpec, sink: Stack, payloads: Arguments, broken: Tensor, sizes: Arguments,
    types: dict[str, Any], **tuning: Any,
) -> None:  # fmt: skip
    """`payloads`: the sink's addresses, and where payloads stand."""
    from latentwire.channel.kernels import zero_point_kernels

    head_dim = sink.first.shape[-1]
    rows, warps, _ = tuned(head_dim, **tuning)
    zero_point_kernels.restore[grid(sink, rows)](
        *payloads, broken, *sizes, **_shape_of(rule, head_dim, rows), **types, num_warps=warps
    )


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
