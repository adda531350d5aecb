"""Kernels of plain floats: numbers of another type, without scales; programs as in `scale_kernels`.

A payload is [H, T, D] without gaps.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from latentwire.channel.kernels.codec_math import NOT_FINITE, magnitude_bits
from latentwire.channel.kernels.scale_kernels import (
    COUNTS,
    load_tile,
    payload_of,
    place,
    store_tile,
)

PLACES = [*COUNTS, "stride"]


@triton.jit
def numbers_at(payload, head, tokens, first, ROWS: tl.constexpr, D: tl.constexpr,
               FLOAT: tl.constexpr):  # fmt: skip
    """Addresses of a tile's numbers [ROWS, D]."""
    base = payload.to(tl.pointer_type(FLOAT)) + (head * tokens + first).to(tl.int64) * D
    return base + (tl.arange(0, ROWS)[:, None] * D + tl.arange(0, D)[None, :])


@triton.jit
def look_at(numbers, broken):
    """Set `broken` where one is no finite number."""
    if tl.max(tl.max(magnitude_bits(numbers.to(tl.float32)), 1), 0) >= NOT_FINITE:
        tl.store(broken, 1)


@triton.jit(do_not_specialize=PLACES)
def quantize(pointers, sinks, memory, starts, stride, broken,
             batch, heads, tokens, by_example, by_head, by_token,
             to_example, to_head, to_token, WORD: tl.constexpr,
             D: tl.constexpr, ROWS: tl.constexpr, FLOAT: tl.constexpr, TYPE: tl.constexpr,
             SINK: tl.constexpr, ALIGNED: tl.constexpr, SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """A tile in the payload's type where `sinks` is None; else what that arrives as."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    valid = first + tl.arange(0, ROWS) < tokens
    x = load_tile(pointers, example, batch, head, first, by_example, by_head, by_token, valid,
                  ROWS, D, TYPE, ALIGNED)  # fmt: skip
    numbers = x.to(FLOAT)
    if sinks is None:
        look_at(numbers, broken)
        payload = payload_of(memory, starts, stride, example, batch, WORD)
        into = numbers_at(payload, head, tokens, first, ROWS, D, FLOAT)
        tl.store(into, numbers, mask=valid[:, None])
    else:
        store_tile(sinks, numbers.to(tl.float32).to(SINK), example, batch, head, first, to_example,
                   to_head, to_token, valid, ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip


@triton.jit(do_not_specialize=PLACES)
def restore(sinks, memory, starts, stride, broken, batch, heads, tokens,
            to_example, to_head, to_token, WORD: tl.constexpr,
            D: tl.constexpr, ROWS: tl.constexpr, FLOAT: tl.constexpr,
            SINK: tl.constexpr, SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """A payload's numbers in the sink's type."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    valid = first + tl.arange(0, ROWS) < tokens
    payload = payload_of(memory, starts, stride, example, batch, WORD)
    at = numbers_at(payload, head, tokens, first, ROWS, D, FLOAT)
    values = tl.load(at, mask=valid[:, None], other=0.0).to(tl.float32).to(SINK)
    look_at(values, broken)
    store_tile(sinks, values, example, batch, head, first, to_example, to_head, to_token, valid,
               ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip
