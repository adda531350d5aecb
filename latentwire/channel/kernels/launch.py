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
from latentwire.channel.kernels import (
    plain_launch,
    rotation_launch,
    scale_launch,
    zero_point_launch,
)
from latentwire.channel.kernels.call import Call
from latentwire.channel.kernels.means import Means
from latentwire.channel.kernels.pointer_stack import Stack, Tensors, on_their_device
from latentwire.channel.kernels.programs import readable, type_of
from latentwire.channel.kernels.room import LEAST, Room
from latentwire.channel.kernels.rules import KernelSpec, spec_of

TRUNCATED = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)  # to these, by the interpreter


def supports(codec: Codec, tensor: Tensor) -> bool:
    """Whether the kernels do this codec for tensors like this one [B, H, T, D]."""
    rule = spec_of(codec)
    return (
        rule is not None
        and readable(tensor)
        and tensor.shape[-1] % (rule.group or 1) == 0
        and tensor[0].numel() < 2**31  # offsets in an example's codes are of 32 bits
        and not (interpreted() and rule.dtype in TRUNCATED)
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
    pointers, starts, own = _told(rule, sink, room.starts, means)
    first = sink.first
    types = {"SINK": type_of(first.dtype), "SINK_ALIGNED": sink.aligned, "WORD": _word(room)}
    _launches(rule).restore(
        Call(
            rule,
            sink,
            (pointers, room.memory, starts, room.stride, *rule.behind(room.fields)),
            broken,
            (*first.shape[:3], *first.stride()[:3]),
            types | {"enable_fp_fusion": False},
            own,
            tuning,
            _third(room),
            means.largest if means else 0.0,
        )
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
    sent: tuple[Any, ...]
    if isinstance(into, Room):
        last, aligned, word, third = first, False, _word(into), _third(into)
        pointers, starts, own = _told(rule, source, into.starts, means)
        sent = (pointers, None, into.memory, starts, into.stride, *rule.behind(into.fields))
    else:
        last, aligned, word, third = into.first, into.aligned, LEAST, 0
        pointers, sinks, own = _told(rule, source, into.addresses, means)
        sent = (pointers, sinks, None, None, 0, *rule.behind((0, 0, 0)))
    types = {
        "TYPE": type_of(first.dtype),
        "SINK": type_of(last.dtype),
        "ALIGNED": source.aligned,
        "SINK_ALIGNED": aligned,
        "WORD": word,
        "enable_fp_fusion": False,
    }
    sizes = (*first.shape[:3], *first.stride()[:3], *last.stride()[:3])
    _launches(rule).quantize(Call(rule, source, sent, broken, sizes, types, own, tuning, third))


def _launches(rule: KernelSpec) -> Any:
    """The file that launches a rule's kernels."""
    if rule.name in ("float", "mxfp4"):
        return plain_launch
    if rule.name == "rotation":
        return rotation_launch
    return zero_point_launch if rule.name == "zero_point" else scale_launch


def _third(room: Room) -> int:
    """Where a payload's third field begins, where it has one."""
    return room.fields[2] if len(room.fields) > 2 else 0


def _told(
    rule: KernelSpec, stack: Stack, row: Sequence[int], means: Means | None
) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
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
