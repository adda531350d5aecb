"""The kernels of integers with a zero point, which channels of a head share, or numbers of a token.

Programs and payloads as in `scale_kernels`: float16 scales first, as many zero points `second`
bytes behind the payload's beginning, and codes `third` bytes behind it. AXIS: what has a scale.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from latentwire.channel.kernels.codec_math import (
    LARGEST_HALF,
    NOT_FINITE,
    TO_INTEGER,
    TO_INTEGER_BITS,
    load_codes,
    magnitude_bits,
    quotient,
    store_codes,
)
from latentwire.channel.kernels.scale_kernels import (
    COUNTS,
    PLACES,
    load_tile,
    not_scales,
    payload_of,
    place,
    rows_at,
    store_tile,
)

LEAST = tl.constexpr(-0x80000000)  # below what any number is in order
# A distance that is further than any code by the largest scale; by the smallest, it is still a
# finite number of codes.
FAR = tl.constexpr(33554432.0)


@triton.jit
def in_order(x):
    """Bits of x (float32) as int32 in the order of the numbers, NaN at an end: what lies below
    NOT_FINITE is finite, and so it is of the complement, in the reverse order. Its own inverse."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def number_of(bits):
    """The number whose bits in order these are."""
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=COUNTS)
def extremes(pointers, found, batch, heads, tokens, by_example, by_head, by_token,
             D: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr, TYPE: tl.constexpr,
             ALIGNED: tl.constexpr):  # fmt: skip
    """The largest number of each channel of a head in order, and the largest complement, into
    `found` (int32 [N, B, H, 2, D], LEAST before)."""
    span = ROWS * TILES
    block, head, example = place(tl.program_id(0), tl.cdiv(tokens, span), heads)
    row, channel = tl.arange(0, ROWS), tl.arange(0, D)
    base = rows_at(pointers, example, batch, head, block * span, by_example, by_head, by_token,
                   TYPE, ALIGNED)  # fmt: skip
    high = tl.full([ROWS, D], LEAST, tl.int32)
    low = tl.full([ROWS, D], LEAST, tl.int32)
    for tile in tl.static_range(TILES):
        at = (tile * ROWS + row)[:, None] * by_token + channel[None, :]
        valid = (block * span + tile * ROWS + row < tokens)[:, None]
        x = in_order(tl.load(base + at, mask=valid, other=0.0).to(tl.float32))
        high = tl.maximum(high, tl.where(valid, x, LEAST))
        low = tl.maximum(low, tl.where(valid, ~x, LEAST))
    into = found + (example.to(tl.int64) * heads + head) * (2 * D) + channel
    tl.atomic_max(into, tl.max(high, 0), sem="relaxed")
    tl.atomic_max(into + D, tl.max(low, 0), sem="relaxed")


@triton.jit
def shared_at(payload, head, tokens, first, row, channel, D: tl.constexpr, AXIS: tl.constexpr):
    """Addresses of the scales of a tile, [D] or [ROWS]."""
    at = payload.to(tl.pointer_type(tl.float16))
    if AXIS == "channel":
        at = at + head * D + channel
    else:
        at = at + (head * tokens + first).to(tl.int64) + row
    return at


@triton.jit
def spread(x, AXIS: tl.constexpr):
    """What has its place by channel or token [D] or [ROWS], so that it broadcasts over a tile."""
    if AXIS == "channel":  # noqa: SIM108 (the branches differ in type)
        spread = x[None, :]
    else:
        spread = x[:, None]
    return spread


@triton.jit(do_not_specialize=[*PLACES, "third"])
def quantize(pointers, sinks, memory, starts, stride, second, third, found, broken,
             batch, heads, tokens, by_example, by_head, by_token,
             to_example, to_head, to_token, WORD: tl.constexpr,
             D: tl.constexpr, ROWS: tl.constexpr, BITS: tl.constexpr, AXIS: tl.constexpr,
             LIMIT: tl.constexpr, EPS: tl.constexpr, CORRECTIONS: tl.constexpr,
             TYPE: tl.constexpr, SINK: tl.constexpr, ALIGNED: tl.constexpr,
             SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """Scales, zero points and codes of a tile where `sinks` is None; else the values that they
    stand for."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row, channel = tl.arange(0, ROWS), tl.arange(0, D)
    valid = first + row < tokens
    x = load_tile(pointers, example, batch, head, first, by_example, by_head, by_token, valid,
                  ROWS, D, TYPE, ALIGNED)  # fmt: skip
    if AXIS == "channel":
        if found is None:  # the tile is the whole head
            high = tl.max(tl.where(valid[:, None], in_order(x), LEAST), 0)
            low = tl.max(tl.where(valid[:, None], ~in_order(x), LEAST), 0)
        else:
            own = found + (example.to(tl.int64) * heads + head) * (2 * D) + channel
            high, low = tl.load(own), tl.load(own + D)
        keep = channel >= tile * D  # all of the first tile, none of the others
    else:
        high, low = tl.max(in_order(x), 1), tl.max(~in_order(x), 1)
        keep = valid
    highest, lowest = number_of(high), number_of(~low)
    # The negative zero goes as the other: which of the two is the smaller, nothing says.
    zero = tl.minimum(tl.maximum(lowest, -LARGEST_HALF), LARGEST_HALF).to(tl.float16)
    zero = zero.to(tl.float32) + 0.0
    reach = highest * 0.5 - lowest * 0.5
    half = tl.div_rn(reach, tl.full(reach.shape, LIMIT, tl.float32)) * 2.0
    half = tl.minimum(tl.maximum(half, EPS), LARGEST_HALF).to(tl.float16)
    wide, offset = spread(half.to(tl.float32), AXIS), spread(zero, AXIS)
    distance = tl.minimum(tl.maximum(x - offset, -FAR), FAR)
    scaled = quotient(distance, wide, [ROWS, D], CORRECTIONS)
    scaled = tl.minimum(tl.maximum(scaled, 0.0), LIMIT) + TO_INTEGER
    if sinks is None:
        if tl.max(tl.maximum(high, low), 0) >= NOT_FINITE:
            tl.store(broken, 1)
        payload = payload_of(memory, starts, stride, example, batch, WORD)
        own = shared_at(payload, head, tokens, first, row, channel, D, AXIS)
        tl.store(own, half, mask=keep)
        behind = payload + tl.multiple_of(second, WORD)
        own = shared_at(behind, head, tokens, first, row, channel, D, AXIS)
        tl.store(own, zero.to(tl.float16), mask=keep)
        ROW_BYTES: tl.constexpr = D * BITS // 8
        into = payload + tl.multiple_of(third, WORD)
        into += (head * tokens + first).to(tl.int64) * ROW_BYTES
        numbers = scaled.to(tl.int32, bitcast=True) - TO_INTEGER_BITS
        store_codes(into, numbers, valid, ROWS, D, BITS)
    else:
        values = (scaled - TO_INTEGER) * wide + offset
        store_tile(sinks, values.to(SINK), example, batch, head, first, to_example, to_head,
                   to_token, valid, ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip


@triton.jit(do_not_specialize=[*PLACES, "third"])
def restore(sinks, memory, starts, stride, second, third, broken, batch, heads, tokens,
            to_example, to_head, to_token, WORD: tl.constexpr,
            D: tl.constexpr, ROWS: tl.constexpr, BITS: tl.constexpr, AXIS: tl.constexpr,
            SINK: tl.constexpr, SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """The values that scales, zero points and codes stand for; `broken` is set where some are no
    numbers."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row, channel = tl.arange(0, ROWS), tl.arange(0, D)
    valid = first + row < tokens
    ROW_BYTES: tl.constexpr = D * BITS // 8
    payload = payload_of(memory, starts, stride, example, batch, WORD)
    base = payload + tl.multiple_of(third, WORD)
    base += (head * tokens + first).to(tl.int64) * ROW_BYTES
    numbers = load_codes(base, valid, ROWS, D, BITS)
    keep = channel >= 0 if AXIS == "channel" else valid
    own = shared_at(payload, head, tokens, first, row, channel, D, AXIS)
    wide = tl.load(own, mask=keep, other=1.0).to(tl.float32)
    behind = payload + tl.multiple_of(second, WORD)
    own = shared_at(behind, head, tokens, first, row, channel, D, AXIS)
    zero = tl.load(own, mask=keep, other=0.0).to(tl.float32)
    if tl.max(not_scales(wide > 0.0, wide), 0) > 0:  # a zero point that is none, its numbers show
        tl.store(broken, 1)
    values = numbers.to(tl.float32) * spread(wide, AXIS) + spread(zero, AXIS)
    values = tl.where(valid[:, None], values, 0.0).to(SINK)
    if tl.max(tl.max(magnitude_bits(values.to(tl.float32)), 1), 0) >= NOT_FINITE:
        tl.store(broken, 1)
    store_tile(sinks, values, example, batch, head, first, to_example, to_head, to_token, valid,
               ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip
