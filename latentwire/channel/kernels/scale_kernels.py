"""The kernels: a launch for all tensors of a `Stack`, a program a tile of ROWS tokens of a head.

A payload lies where it is sent: tensor n's of example b begins `starts[n] + b * stride` bytes
behind `memory`, with its scales; its codes, [H, T, D] without gaps, begin `second` bytes behind
that. All of these are multiples of WORD.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from latentwire.channel.kernels.codec_math import (
    LARGEST_HALF,
    NOT_FINITE,
    codes_of,
    load_codes,
    magnitude_bits,
    store_codes,
    values_of,
)

# Their values call for no code of their own, so that a new length compiles nothing.
COUNTS = ["batch", "heads", "tokens"]
PLACES = [*COUNTS, "stride", "second"]


@triton.jit
def place(tile, tiles, heads):
    """Which tile, head and example of all tensors a program works on."""
    section = tile // tiles
    return tile % tiles, section % heads, section // heads


@triton.jit
def payload_of(memory, starts, stride, example, batch, WORD: tl.constexpr):
    """Address of an example's payload."""
    start = tl.multiple_of(tl.load(starts + example // batch), WORD)
    return memory + tl.multiple_of(start + (example % batch).to(tl.int64) * stride, WORD)


@triton.jit
def rows_at(pointers, example, batch, head, first, by_example, by_head, by_token,
            TYPE: tl.constexpr, ALIGNED: tl.constexpr):  # fmt: skip
    """Address of token `first` of a head of a tensor of the stack."""
    address = tl.load(pointers + example // batch)
    if ALIGNED:
        address = tl.multiple_of(address, 16)
    base = address.to(tl.pointer_type(TYPE))
    if ALIGNED:
        base = tl.multiple_of(base, 16)
    offset = (example % batch).to(tl.int64) * by_example + head.to(tl.int64) * by_head
    return base + (offset + first.to(tl.int64) * by_token)


@triton.jit
def maximum_at(found, example, heads, head, SCALES: tl.constexpr):
    """Address of what `maxima` found for an example's head, or for all its heads."""
    if SCALES == "layer":
        at = found + example.to(tl.int64)
    else:
        at = found + (example.to(tl.int64) * heads + head)
    return at


@triton.jit
def load_tile(pointers, example, batch, head, first, by_example, by_head, by_token, valid,
              ROWS: tl.constexpr, D: tl.constexpr, TYPE: tl.constexpr,
              ALIGNED: tl.constexpr):  # fmt: skip
    """Tokens from `first` on of a head (float32 [ROWS, D]), zeros where not `valid`."""
    base = rows_at(pointers, example, batch, head, first, by_example, by_head, by_token,
                   TYPE, ALIGNED)  # fmt: skip
    at = tl.arange(0, ROWS)[:, None] * by_token + tl.arange(0, D)[None, :]
    return tl.load(base + at, mask=valid[:, None], other=0.0).to(tl.float32)


@triton.jit
def store_tile(sinks, values, example, batch, head, first, to_example, to_head, to_token, valid,
               ROWS: tl.constexpr, D: tl.constexpr, SINK: tl.constexpr,
               SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """Put such tokens, of the sink's type, where they stand there."""
    into = rows_at(sinks, example, batch, head, first, to_example, to_head, to_token,
                   SINK, SINK_ALIGNED)  # fmt: skip
    at = tl.arange(0, ROWS)[:, None] * to_token + tl.arange(0, D)[None, :]
    tl.store(into + at, values, mask=valid[:, None])


@triton.jit(do_not_specialize=COUNTS)
def maxima(pointers, found, batch, heads, tokens, by_example, by_head, by_token,
           D: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr, TYPE: tl.constexpr,
           ALIGNED: tl.constexpr, SCALES: tl.constexpr):  # fmt: skip
    """Bits of the largest magnitude of each head, or of all where SCALES is "layer", into `found`
    (int32 [N, B, H] or [N, B], zeros before)."""
    span = ROWS * TILES
    block, head, example = place(tl.program_id(0), tl.cdiv(tokens, span), heads)
    row = tl.arange(0, ROWS)
    base = rows_at(pointers, example, batch, head, block * span, by_example, by_head, by_token,
                   TYPE, ALIGNED)  # fmt: skip
    largest = tl.zeros([ROWS, D], tl.int32)
    for tile in tl.static_range(TILES):
        at = (tile * ROWS + row)[:, None] * by_token + tl.arange(0, D)[None, :]
        valid = block * span + tile * ROWS + row < tokens
        x = tl.load(base + at, mask=valid[:, None], other=0.0).to(tl.float32)
        largest = tl.maximum(largest, magnitude_bits(x))
    most = tl.max(tl.max(largest, 1), 0)
    tl.atomic_max(maximum_at(found, example, heads, head, SCALES), most, sem="relaxed")


@triton.jit(do_not_specialize=PLACES)
def quantize(pointers, sinks, memory, starts, stride, second, levels, found, broken,
             batch, heads, tokens, by_example, by_head, by_token,
             to_example, to_head, to_token, WORD: tl.constexpr,
             D: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr,
             BITS: tl.constexpr, RULE: tl.constexpr, LIMIT: tl.constexpr, EPS: tl.constexpr,
             SCALES: tl.constexpr,
             TYPE: tl.constexpr, SINK: tl.constexpr, ALIGNED: tl.constexpr,
             SINK_ALIGNED: tl.constexpr, CORRECTIONS: tl.constexpr,
             LEVELS: tl.constexpr, PER_UNIT: tl.constexpr,
             LOW: tl.constexpr, CELLS: tl.constexpr):  # fmt: skip
    """Codes and scales of a tile where `sinks` is None; else the values that they stand for."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row = tl.arange(0, ROWS)
    valid = first + row < tokens
    if sinks is None:
        payload = payload_of(memory, starts, stride, example, batch, WORD)
    x = load_tile(pointers, example, batch, head, first, by_example, by_head, by_token, valid,
                  ROWS, D, TYPE, ALIGNED)  # fmt: skip
    GROUPS: tl.constexpr = D // GROUP
    if SCALES != "token":  # float32, over the whole section, or over all heads'
        if found is None:
            most = tl.max(tl.max(magnitude_bits(x), 1), 0)
        else:
            most = tl.load(maximum_at(found, example, heads, head, SCALES))
        scale = tl.maximum(tl.div_rn(most.to(tl.float32, bitcast=True), LIMIT), EPS)
        if SCALES == "layer":
            own, before = head * 0, tile + head
        else:
            own, before = head, tile
        if sinks is None and before == 0:
            tl.store(payload.to(tl.pointer_type(tl.float32)) + own, scale)
            if most >= NOT_FINITE:
                tl.store(broken, 1)
            if magnitude_bits(scale * LIMIT) >= NOT_FINITE:  # what the largest code stands for
                tl.store(broken, 1)
        wide = tl.full([1, 1], 1.0, tl.float32) * scale
        numbers = codes_of(x, wide, levels, [ROWS, D], RULE, LIMIT, CORRECTIONS,
                           LEVELS, PER_UNIT, LOW, CELLS)  # fmt: skip
        if sinks is not None:
            values = values_of(numbers, levels, RULE, LIMIT) * scale
    else:  # float16, of a token
        if sinks is None:
            most = tl.max(tl.max(magnitude_bits(x), 1), 0)
            if most >= NOT_FINITE:
                tl.store(broken, 1)
        parts = tl.reshape(x, [ROWS, GROUPS, GROUP])
        half = tl.div_rn(tl.max(tl.abs(parts), 2), tl.full([ROWS, GROUPS], LIMIT, tl.float32))
        half = tl.minimum(tl.maximum(half, EPS), LARGEST_HALF).to(tl.float16)
        wide = half.to(tl.float32)[:, :, None]
        numbers = codes_of(parts, wide, levels, [ROWS, GROUPS, GROUP], RULE, LIMIT,
                           CORRECTIONS, LEVELS, PER_UNIT, LOW, CELLS)  # fmt: skip
        if sinks is not None:
            values = tl.reshape(values_of(numbers, levels, RULE, LIMIT) * wide, [ROWS, D])
        numbers = tl.reshape(numbers, [ROWS, D])
        if sinks is None:
            into = payload.to(tl.pointer_type(tl.float16))
            into += (head * tokens + first).to(tl.int64) * GROUPS
            own = row[:, None] * GROUPS + tl.arange(0, GROUPS)[None, :]
            tl.store(into + own, half, mask=valid[:, None])
    if sinks is None:
        ROW_BYTES: tl.constexpr = D * BITS // 8
        into = payload + tl.multiple_of(second, WORD)
        into += (head * tokens + first).to(tl.int64) * ROW_BYTES
        store_codes(into, numbers, valid, ROWS, D, BITS)
    else:
        store_tile(sinks, values.to(SINK), example, batch, head, first, to_example, to_head,
                   to_token, valid, ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip


@triton.jit
def not_scales(positive, largest):
    """Which scales no encoder writes (int32, 1 or 0): those not positive, and those with which the
    largest number would be infinite."""
    return 1 - (positive & (magnitude_bits(largest) < NOT_FINITE)).to(tl.int32)


@triton.jit(do_not_specialize=PLACES)
def restore(sinks, memory, starts, stride, second, levels, broken, batch, heads, tokens,
            to_example, to_head, to_token, WORD: tl.constexpr,
            D: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr,
            BITS: tl.constexpr, RULE: tl.constexpr, LIMIT: tl.constexpr, SCALES: tl.constexpr,
            SINK: tl.constexpr, SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """The values that codes and scales stand for; `broken` is set where some are no numbers."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row = tl.arange(0, ROWS)
    valid = first + row < tokens
    GROUPS: tl.constexpr = D // GROUP
    ROW_BYTES: tl.constexpr = D * BITS // 8
    payload = payload_of(memory, starts, stride, example, batch, WORD)
    base = payload + tl.multiple_of(second, WORD)
    base += (head * tokens + first).to(tl.int64) * ROW_BYTES
    numbers = load_codes(base, valid, ROWS, D, BITS)
    if RULE == "integer":  # noqa: SIM102 (Triton knows no `and` of a constant and a number)
        if tl.max(tl.max(numbers, 1), 0) > 2 * int(LIMIT):
            tl.store(broken, 1)
    if SCALES != "token":
        own = payload.to(tl.pointer_type(tl.float32))
        if SCALES == "head":
            own += head
        scale = tl.load(own)
        values = values_of(numbers, levels, RULE, LIMIT) * scale
        largest = scale
        if RULE == "integer":
            largest = scale * LIMIT
        if not_scales(scale > 0.0, largest) > 0:
            tl.store(broken, 1)
    else:
        base = payload.to(tl.pointer_type(tl.float16))
        base += (head * tokens + first).to(tl.int64) * GROUPS
        own = row[:, None] * GROUPS + tl.arange(0, GROUPS)[None, :]
        wide = tl.load(base + own, mask=valid[:, None], other=1.0).to(tl.float32)
        if tl.max(tl.max(not_scales(wide > 0.0, wide), 1), 0) > 0:
            tl.store(broken, 1)
        parts = tl.reshape(numbers, [ROWS, GROUPS, GROUP])
        values = values_of(parts, levels, RULE, LIMIT) * wide[:, :, None]
        values = tl.reshape(values, [ROWS, D])
    values = tl.where(valid[:, None], values, 0.0).to(SINK)
    if tl.max(tl.max(magnitude_bits(values.to(tl.float32)), 1), 0) >= NOT_FINITE:
        tl.store(broken, 1)
    store_tile(sinks, values, example, batch, head, first, to_example, to_head, to_token, valid,
               ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip
