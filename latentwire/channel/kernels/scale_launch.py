"""Launches of `scale_kernels`, which all rules share that have codes of one width and a scale."""

from typing import Any

import torch
from torch import Tensor

from latentwire.channel.kernels.call import Call
from latentwire.channel.kernels.programs import grid, largest, tuned, whole_head
from latentwire.channel.kernels.rules import KernelSpec, cells, table


def quantize(call: Call) -> None:
    from latentwire.channel.kernels import scale_kernels

    rule = call.rule
    found, rows, warps, steps = _maxima(call)
    low, edges, _ = cells(rule)
    shape = {"LEVELS": len(rule.levels), "PER_UNIT": rule.per_unit, "LOW": low}
    shape |= {"CELLS": len(edges), "CORRECTIONS": _corrections(rule) if steps else 0}
    scale_kernels.quantize[grid(call.stack, rows)](
        *call.places, table(rule, call.stack.first.device), found, call.broken, *call.sizes,
        EPS=rule.eps, **_shape_of(rule, call.head_dim, rows), **shape, **call.types,
        num_warps=warps,
    )  # fmt: skip


def restore(call: Call) -> None:
    from latentwire.channel.kernels import scale_kernels

    rows, warps, _ = tuned(call.head_dim, **call.tuning)
    scale_kernels.restore[grid(call.stack, rows)](
        *call.places, table(call.rule, call.stack.first.device), call.broken, *call.sizes,
        **_shape_of(call.rule, call.head_dim, rows), **call.types, num_warps=warps,
    )  # fmt: skip


def _maxima(call: Call) -> tuple[Tensor | None, int, int, bool]:
    """Bits of the largest magnitude of all that share a scale, but where a program holds all that
    and finds it by itself; and `tuned`."""
    rule, tuning = call.rule, call.tuning
    rows, warps, steps = tuned(call.head_dim, **tuning)
    if not rule.over_tokens:
        return None, rows, warps, steps
    if rule.scales == "head" and (whole := whole_head(call.tokens, call.head_dim, **tuning)):
        return None, *whole, steps
    return largest(call.stack, call.places[0], rows, warps, rule.scales), rows, warps, steps


def _corrections(rule: KernelSpec) -> int:
    """By how many of a reciprocal the kernels divide by a scale, see `quotient`; 0: they divide."""
    if not rule.over_tokens:
        return 1
    # The reciprocal of a scale of large numbers has all its bits only where it is not subnormal.
    info = torch.finfo(torch.float32)
    return 2 if rule.limit / info.max >= info.tiny else 0


def _shape_of(rule: KernelSpec, head_dim: int, rows: int) -> dict[str, Any]:
    return {
        "D": head_dim,
        "ROWS": rows,
        "GROUP": rule.group or head_dim,
        "BITS": rule.bits,
        "RULE": rule.name,
        "LIMIT": rule.limit,
        "SCALES": rule.scales,
    }
