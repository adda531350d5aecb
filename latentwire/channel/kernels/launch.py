"""Codecs as GPU kernels over all tensors of a cache at once; `supports` says for which.

Bytes and numbers are the reference's, bit for bit: `codec.encode`, `decode` and `round_trip` of
each tensor on a CPU. Where `supports` is False, callers use those. Nothing here waits for a device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from c2c.on_device import on_device
from c2c.triton_support import interpreted
from latentwire.channel.codec import Codec
from latentwire.channel.kernels import rotation_launch, zero_points
from latentwire.channel.kernels.means import Means
from latentwire.channel.kernels.pointer_stack import Stack, Tensors, on_their_device
from latentwire.channel.kernels.programs import (
    grid,
    largest,
    readable,
    tuned,
    type_of,
    whole_head,
)
from latentwire.channel.kernels.room import LEAST, Room
from latentwire.channel.kernels.rules import KernelSpec, cells, spec_of, table


def supports(codec: Codec, tensor: Tensor) -> bool:
    """Whether the kernels do this codec for tensors like this one [B, H, T, D]."""
    rule = spec_of(codec)
    return (
        rule is not None
        and readable(tensor)
        and tensor.shape[-1] % (rule.group or 1) == 0
        and tensor[0].numel() < 2**31  # offsets in an example's codes are of 32 bits
        and not (interpreted() and rule.name in ("e4m3", "e5m2"))  # it truncates to FP8
    )


def encode(
    codec: Codec,
    tensors: Tensors,
    room: Room,
    broken: Tensor,
    means: Means | None = None,
    **tuning: Any,
) -> None:
    """Write the payloads of N tensors [B, H, T, D], or of what they are without their means (the
    rotation alone takes any), into `room`, whose word is of LEAST bytes or more.

    Sets `broken` (int32 [1]) where `codec.encode` may refuse one of them. `tuning`: see `tuned` and
    `rotation_launch`.
    """
    source = Stack.of(tensors)
    first = source.first
    rule = _rule(codec, first)
    _check_room(source, room)
    with torch.cuda.device_of(first):  # Triton launches on the current device, wherever tensors are
        _quantize(rule, source, room, broken, means, **tuning)


def round_trip(
    codec: Codec,
    tensors: Tensors,
    out: Tensors | None = None,
    means: Means | None = None,
    **tuning: Any,
) -> tuple[Tensor, ...]:
    """What decoding what was encoded gives, of N tensors [B, H, T, D], without making codes: with
    means taken before and added behind.

    Into `out` (any of DTYPES, also the tensors themselves) or new tensors of the same dtype. NaN
    and infinity are not looked for.
    """
    source = Stack.of(tensors)
    rule = _rule(codec, source.first)
    sink = Stack.empty_like(source) if out is None else Stack.of(out)
    _same_shape(source, sink)
    with torch.cuda.device_of(source.first):
        _quantize(rule, source, sink, None, means, **tuning)
    return tuple(sink.tensors)


def decode(
    codec: Codec,
    room: Room,
    out: Tensors,
    broken: Tensor,
    means: Means | None = None,
    **tuning: Any,
) -> None:
    """Fill `out` (N tensors [B, H, T, D] of any of DTYPES) with what the payloads in `room` stand
    for, whose word is of LEAST bytes or more; means are added.

    Sets `broken` (int32 [1]) where they hold a scale or a code that no encoder writes, NaN, or more
    than `out` holds.
    """
    sink = Stack.of(out)
    first = sink.first
    rule = _rule(codec, first)
    _check_room(sink, room)
    with torch.cuda.device_of(first):
        _restore(rule, room, sink, broken, means, **tuning)


def _restore(
    rule: KernelSpec, room: Room, sink: Stack, broken: Tensor, means: Means | None, **tuning: Any
) -> None:
    first = sink.first
    head_dim, device = first.shape[-1], first.device
    pointers, starts, own = _told(rule, sink, room.starts, means)
    payloads = (pointers, room.memory, starts, room.stride, *rule.behind(room.fields))
    sizes = (*first.shape[:3], *first.stride()[:3])
    types = {"SINK": type_of(first.dtype), "SINK_ALIGNED": sink.aligned, "WORD": _word(room)}
    types["enable_fp_fusion"] = False
    if rule.name == "zero_point":
        zero_points.restore(rule, sink, payloads, broken, sizes, types, **tuning)
        return
    if rule.name == "mxfp4":
        from latentwire.channel.kernels import mxfp4_kernels

        rows, warps, _ = tuned(head_dim, **tuning)
        mxfp4_kernels.restore[grid(sink, rows)](
            *payloads, broken, *sizes, D=head_dim, ROWS=rows, **types, num_warps=warps
        )
        return
    read = (*payloads, table(rule, device))
    if rule.name == "rotation":
        places, added = (*read, broken), means.largest if means else 0.0
        rotation_launch.restore(rule, sink, room, places, sizes, types, own, added, **tuning)
        return
    from latentwire.channel.kernels import scale_kernels

    rows, warps, _ = tuned(head_dim, **tuning)
    scale_kernels.restore[grid(sink, rows)](
        *read, broken, *sizes, **_shape_of(rule, head_dim, rows), **types, num_warps=warps
    )


def _quantize(
    rule: KernelSpec,
    source: Stack,
    into: Stack | Room,
    broken: Tensor | None,
    means: Means | None,
    **tuning: Any,
) -> None:
    """Payloads where `into` is a room, else the values that they stand for."""
    first = source.first
    head_dim = first.shape[-1]
    if isinstance(into, Room):
        last, aligned, word = first, False, _word(into)
        sent: tuple[Any, ...]
        pointers, starts, own = _told(rule, source, into.starts, means)
        sent = (pointers, None, into.memory, starts, into.stride, *rule.behind(into.fields))
    else:
        last, aligned, word = into.first, into.aligned, LEAST
        pointers, sinks, own = _told(rule, source, into.addresses, means)
        sent = (pointers, sinks, None, None, 0, *rule.behind((0, 0, 0)))
    sizes = (*first.shape[:3], *first.stride()[:3], *last.stride()[:3])
    types = {
        "TYPE": type_of(first.dtype),
        "SINK": type_of(last.dtype),
        "ALIGNED": source.aligned,
        "SINK_ALIGNED": aligned,
        "WORD": word,
        "enable_fp_fusion": False,
    }
    if rule.name == "mxfp4":
        from latentwire.channel.kernels import mxfp4_kernels

        rows, warps, _ = tuned(head_dim, **tuning)
        mxfp4_kernels.quantize[grid(source, rows)](
            *sent, broken, *sizes, D=head_dim, ROWS=rows, **types, num_warps=warps
        )
        return
    types["EPS"] = rule.eps
    if rule.name == "zero_point":
        zero_points.quantize(rule, source, sent, broken, sizes, types, **tuning)
        return
    levels = table(rule, first.device)
    if rule.name == "rotation":
        places = (*sent, levels, broken)
        rotation_launch.quantize(rule, source, into, places, sizes, types, own, **tuning)
        return
    from latentwire.channel.kernels import scale_kernels

    found, rows, warps, steps = _maxima(rule, source, sent[0], **tuning)
    low, edges, _ = cells(rule)
    shape = {"LEVELS": len(rule.levels), "PER_UNIT": rule.per_unit, "LOW": low}
    shape |= {"CELLS": len(edges), "CORRECTIONS": _corrections(rule) if steps else 0}
    scale_kernels.quantize[grid(source, rows)](
        *sent, levels, found, broken, *sizes, **_shape_of(rule, head_dim, rows), **shape, **types,
        num_warps=warps,
    )  # fmt: skip


def _corrections(rule: KernelSpec) -> int:
    """By how many of a reciprocal the kernels divide by a scale, see `quotient`; 0: they divide."""
    if not rule.over_tokens:
        return 1
    # The reciprocal of a scale of large numbers has all its bits only where it is not subnormal.
    info = torch.finfo(torch.float32)
    return 2 if rule.limit / info.max >= info.tiny else 0


def _told(
    rule: KernelSpec, stack: Stack, row: Sequence[int], means: Means | None
) -> tuple[Tensor, Tensor, Sequence[Any]]:
    """On the device the stack's addresses, a `row` of as many numbers, and what `mean_rows` wants
    to know of means."""
    first = stack.first
    if means is None:
        addresses, numbers = on_their_device(first, stack.addresses, row)
        return addresses, numbers, (None, None, None, None, 0, 0, 0)
    batch, heads, tokens, head_dim = first.shape
    _, rows, count = means.at.shape
    table = means.table
    held = table.shape[1], rows in (1, batch), count, table.shape[3]
    if rule.name != "rotation" or held != (heads, True, tokens, head_dim):
        raise ValueError(f"these means are not for {rule.name} and tensors {first.shape}")
    rows_of_all = stack.addresses, row, means.layers, means.lists
    addresses, numbers, layers, lists = on_their_device(first, *rows_of_all)
    at = on_device(means.at.flatten(), first.device)
    apart = count if rows > 1 else 0
    return addresses, numbers, (table, layers, lists, at, table.shape[2], rows * count, apart)


def _maxima(
    rule: KernelSpec, source: Stack, pointers: Tensor, **tuning: Any
) -> tuple[Tensor | None, int, int, bool]:
    """Bits of the largest magnitude of all that share a scale, but where a program holds all that
    and finds it by itself; and `tuned`."""
    *_, tokens, head_dim = source.first.shape
    rows, warps, steps = tuned(head_dim, **tuning)
    if not rule.over_tokens:
        return None, rows, warps, steps
    if rule.scales == "head" and (whole := whole_head(tokens, head_dim, **tuning)):
        return None, *whole, steps
    return largest(source, pointers, rows, warps, rule.scales), rows, warps, steps


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


def _rule(codec: Codec, tensor: Tensor) -> KernelSpec:
    rule = spec_of(codec)
    if rule is None or not supports(codec, tensor):
        raise ValueError(f"there is no kernel for {codec.name} and {tensor.dtype} {tensor.shape}")
    return rule


def _check_room(stack: Stack, room: Room) -> None:
    if len(room.starts) != len(stack.tensors) or room.word % LEAST:
        raise ValueError("payloads of as many tensors are to begin at multiples of 4 bytes")


def _word(room: Room) -> int:
    """Few different ones: a kernel is compiled for each."""
    return min(room.word, 2 * LEAST)


def _same_shape(source: Stack, sink: Stack) -> None:
    if source.first.shape != sink.first.shape or len(source.tensors) != len(sink.tensors):
        raise ValueError("what goes in and what comes out differ in shape or number")
