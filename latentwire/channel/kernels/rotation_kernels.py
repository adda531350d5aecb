"""The kernels of the rotation.

A row is held in PARTS parts of WIDTH channels, a tensor each. The transform's steps over WIDTH
channels and more then join numbers of one thread; only those from the 8 numbers that a thread
loads at once up to WIDTH exchange any between threads, which is what costs most.

Codes of the first FINE parts have BITS bits and lie in the first field of codes; those of the
others, if any, have COARSE_BITS and lie in the second, `third` bytes behind the payload's first.
"""
# mypy: ignore-errors
# ruff: noqa: RUF005 (Triton knows no iterable unpacking)

import triton
import triton.language as tl

from latentwire.channel.kernels.codec_math import (
    LARGEST_HALF,
    NOT_FINITE,
    TO_INTEGER,
    TO_INTEGER_BITS,
    magnitude_bits,
    store_octets,
)
from latentwire.channel.kernels.scale_kernels import PLACES, payload_of, place, rows_at

COUNTED = [*PLACES, "third", "positions", "list_size", "by_row"]


@triton.jit
def neighbours(x, ROWS: tl.constexpr, WIDTH: tl.constexpr, LOG_WIDTH: tl.constexpr):
    """The transform of each row of a part, by sums and differences 1, 2, 4, ... apart."""
    for step in tl.static_range(LOG_WIDTH):
        pairs = tl.reshape(x, [ROWS * WIDTH // (2 << step), 2, 1 << step])
        if step < 3:
            first, second = tl.split(tl.permute(pairs, (0, 2, 1)))
            pairs = tl.permute(tl.join(first + second, first - second), (0, 2, 1))
        else:  # each number meets its partner by an exclusive or over the two, one exchange
            own = pairs.to(tl.int32, bitcast=True)
            partner = (tl.xor_sum(own, 1, keep_dims=True) ^ own).to(tl.float32, bitcast=True)
            # 1 and -1: the product is exact, so that only the sum is rounded.
            side = tl.broadcast_to(1.0 - 2.0 * tl.arange(0, 2)[None, :, None], pairs.shape)
            pairs = tl.fma(pairs, side.to(tl.float32), partner)
        x = tl.reshape(pairs, [ROWS, WIDTH])
    return x


@triton.jit
def hadamard(parts, ROWS: tl.constexpr, WIDTH: tl.constexpr, LOG_WIDTH: tl.constexpr,
             PARTS: tl.constexpr, LOG_PARTS: tl.constexpr):  # fmt: skip
    """The transform of each row [PARTS * WIDTH]."""
    turned = ()
    for part in tl.static_range(PARTS):
        turned = turned + (neighbours(parts[part], ROWS, WIDTH, LOG_WIDTH),)
    for step in tl.static_range(LOG_PARTS):
        joined = ()
        for part in tl.static_range(PARTS):
            if part < part ^ (1 << step):
                joined = joined + (turned[part] + turned[part ^ (1 << step)],)
            else:
                joined = joined + (turned[part ^ (1 << step)] - turned[part],)
        turned = joined
    return turned


@triton.jit
def sum_of_squares(parts, ROWS: tl.constexpr, WIDTH: tl.constexpr, LOG_WIDTH: tl.constexpr,
                   PARTS: tl.constexpr, LOG_PARTS: tl.constexpr):  # fmt: skip
    """Sum of x^2 of each row (float32 [ROWS]), neighbours added in pairs."""
    totals = ()
    for part in tl.static_range(PARTS):
        total = parts[part] * parts[part]
        for step in tl.static_range(LOG_WIDTH):  # each sum is of two numbers: its order is fixed
            total = tl.sum(tl.reshape(total, [ROWS, WIDTH >> (step + 1), 2]), 2)
        totals = totals + (tl.reshape(total, [ROWS]),)
    for step in tl.static_range(LOG_PARTS):
        joined = ()
        for pair in tl.static_range(PARTS >> (step + 1)):
            joined = joined + (totals[2 * pair] + totals[2 * pair + 1],)
        totals = joined
    return totals[0]


# Bisects 7 boundaries of magnitudes: 0.5 and how many lie below |x|. Number by number, where the
# compiler would do each comparison for all of them, and pack what does not fit in predicates.
BISECT = tl.constexpr("""{
    .reg .pred up;
    .reg .f32 magnitude, bound, low, high;
    abs.f32 magnitude, $1;
    setp.gt.f32 up, magnitude, $5;
    selp.f32 bound, $7, $3, up;
    selp.f32 low, $6, $2, up;
    selp.f32 high, $8, $4, up;
    selp.f32 $0, 0f40900000, 0f3F000000, up;
    setp.gt.f32 up, magnitude, bound;
    selp.f32 bound, high, low, up;
    @up add.f32 $0, $0, 0f40000000;
    setp.gt.f32 up, magnitude, bound;
    @up add.f32 $0, $0, 0f3F800000;
}""")


@triton.jit
def nearest(x, B: tl.constexpr, COUNT: tl.constexpr, PLAIN: tl.constexpr):
    """Number (float32, whole) of the level nearest to x, of 2 (COUNT + 1), each half a mirror.

    In floating point, as the GPU adds those at twice the speed of whole numbers.
    """
    if COUNT == 7 and not PLAIN:
        number = tl.inline_asm_elementwise(
            BISECT, "=&f,f,f,f,f,f,f,f,f", [x, B[0], B[1], B[2], B[3], B[4], B[5], B[6]],
            tl.float32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        number = tl.full(x.shape, 0.5, tl.float32)
        for bound in tl.static_range(COUNT):
            number = tl.where(tl.abs(x) > B[bound], number + 1.0, number)
    # The sign as 1 or -1; x + 0 has the negative zero, like the other, go to the positive level.
    sign = ((x + 0.0).to(tl.int32, bitcast=True) & -0x80000000) | 0x3F800000
    middle = tl.full(x.shape, COUNT + 0.5, tl.float32)
    return tl.fma(sign.to(tl.float32, bitcast=True), number, middle)


@triton.jit
def whole(x):
    """Whole numbers of at most 22 bits as int32."""
    return (x + TO_INTEGER).to(tl.int32, bitcast=True) - TO_INTEGER_BITS


@triton.jit
def paired(x, FACTOR: tl.constexpr, ROWS: tl.constexpr, COUNT: tl.constexpr):
    """first + FACTOR * second of the COUNT pairs of neighbours of a row, exactly."""
    first, second = tl.split(tl.reshape(x, [ROWS, COUNT, 2]))
    return tl.fma(second, tl.full(second.shape, FACTOR, tl.float32), first)


@triton.jit
def store_numbers(base, numbers, valid, ROWS: tl.constexpr, WIDTH: tl.constexpr,
                  BITS: tl.constexpr, ROW_BYTES: tl.constexpr):  # fmt: skip
    """Codes (float32 [ROWS, WIDTH], whole) packed as by `store_codes`, by sums of products."""
    row = tl.arange(0, ROWS)[:, None]
    packed = paired(numbers, 1 << BITS, ROWS, WIDTH // 2)
    packed = paired(packed, 1 << (2 * BITS), ROWS, WIDTH // 4)
    if BITS == 3:
        low, high = tl.split(tl.reshape(whole(packed), [ROWS, WIDTH // 8, 2]))
        octets = low | (high << 12)  # eight codes each
        if WIDTH < 32:
            at = base + row * ROW_BYTES + 3 * tl.arange(0, WIDTH // 8)[None, :]
            for byte in tl.static_range(3):
                tl.store(at + byte, (octets >> (8 * byte)).to(tl.uint8), mask=valid[:, None])
        else:
            store_octets(base, octets, valid[:, None], ROWS, WIDTH // 8, ROW_BYTES)
    else:
        if BITS < 4:
            packed = paired(packed, 1 << (4 * BITS), ROWS, WIDTH // 8)
        if BITS == 1:
            packed = paired(packed, 256, ROWS, WIDTH // 16)
        at = row * (ROW_BYTES // 2) + tl.arange(0, WIDTH * BITS // 16)[None, :]
        into = base.to(tl.pointer_type(tl.uint16)) + at
        tl.store(into, whole(packed).to(tl.uint16), mask=valid[:, None])


@triton.jit
def flipped(x, flips, WIDTH: tl.constexpr):
    """x [ROWS, WIDTH] with the sign of channel c changed where bit c of `flips` is set.

    One bit a channel: a number each, read from memory, costs as much as an exchange.
    """
    sign = (flips << (31 - tl.arange(0, WIDTH))) & -0x80000000
    return (x.to(tl.int32, bitcast=True) ^ sign[None, :]).to(tl.float32, bitcast=True)


@triton.jit
def looked_up(table, at, PLAIN: tl.constexpr):
    """table[at] (float32). By an instruction that the compiler knows nothing of, as it would
    spread a plain load over threads as if neighbours lay side by side in memory, and then have
    to bring them back to where they belong."""
    if PLAIN:
        found = tl.load(table + at)
    else:
        found = tl.inline_asm_elementwise(
            "ld.global.nc.f32 $0, [$1];", "=f,l", [table + at], tl.float32, is_pure=True, pack=1
        )
    return found


@triton.jit
def load_numbers(base, valid, ROWS: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr,
                 ROW_BYTES: tl.constexpr):  # fmt: skip
    """What `store_numbers` stored (int32 [ROWS, WIDTH]), and zero where not `valid`: as many codes
    at once as fill 32 bits, or 24 or 16, which stay with one thread."""
    SHORT: tl.constexpr = WIDTH * BITS == 16
    CODES: tl.constexpr = 8 if BITS == 3 else (16 if SHORT else 32 // BITS)
    WORDS: tl.constexpr = WIDTH // CODES
    row, word = tl.arange(0, ROWS)[:, None], tl.arange(0, WORDS)[None, :]
    if BITS == 3:
        at = base + row * ROW_BYTES + 3 * word
        words = tl.zeros([ROWS, WORDS], tl.int32)
        for byte in tl.static_range(3):
            words |= tl.load(at + byte, mask=valid[:, None], other=0).to(tl.int32) << (8 * byte)
    elif SHORT:
        at = base.to(tl.pointer_type(tl.uint16)) + row * (ROW_BYTES // 2) + word
        words = tl.load(at, mask=valid[:, None], other=0).to(tl.int32)
    else:
        at = base.to(tl.pointer_type(tl.int32)) + row * (ROW_BYTES // 4) + word
        words = tl.load(at, mask=valid[:, None], other=0)
    shifts = (BITS * tl.arange(0, CODES))[None, None, :]
    codes = (words[:, :, None] >> shifts) & ((1 << BITS) - 1)
    return tl.reshape(codes, [ROWS, WIDTH])


@triton.jit
def mean_rows(means, layers, lists, at, positions, list_size, by_row, example, batch, head, heads,
              first, valid, ROWS: tl.constexpr, D: tl.constexpr):  # fmt: skip
    """Addresses of the means of a tile's tokens [ROWS, 1] in a table [L, H, positions, D], and for
    which of them there are any ([ROWS, 1]); see `Means`. `at` is [lists, list_size] with examples
    `by_row` apart."""
    tensor = example // batch
    layer = tl.load(layers + tensor)
    own = tl.load(lists + tensor) * list_size + (example % batch).to(tl.int64) * by_row + first
    position = tl.load(at + own + tl.arange(0, ROWS), mask=valid, other=0)
    row = (layer * heads + head) * positions + position
    there = tl.where(layer >= 0, valid.to(tl.int32), 0) > 0
    return means + row[:, None] * D, there[:, None]


@triton.jit
def load_part(base, mean, part: tl.constexpr, at, valid, there, WIDTH: tl.constexpr):
    """A part of rows (float32 [ROWS, WIDTH]), their means taken where they have any."""
    x = tl.load(base + part * WIDTH + at, mask=valid[:, None], other=0.0).to(tl.float32)
    if mean is not None:
        channel = part * WIDTH + tl.arange(0, WIDTH)[None, :]
        x -= tl.load(mean + channel, mask=there, other=0.0)
    return x


@triton.jit
def put(sinks, parts, scale, flips, mean, there, doubt, broken, example, batch, head, first, valid,
        to_example, to_head, to_token, ROWS: tl.constexpr, WIDTH: tl.constexpr,
        LOG_WIDTH: tl.constexpr, PARTS: tl.constexpr, LOG_PARTS: tl.constexpr,
        NORM: tl.constexpr, SINK: tl.constexpr,
        SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """Turn levels back, add means and store the rows that they stand for, where `valid`. With
    `doubt`, `broken` is set where one is no finite number."""
    into = rows_at(sinks, example, batch, head, first, to_example, to_head, to_token,
                   SINK, SINK_ALIGNED)  # fmt: skip
    channel = tl.arange(0, WIDTH)
    at = tl.arange(0, ROWS)[:, None] * to_token + channel[None, :]
    factor = (scale * NORM)[:, None]
    turned = hadamard(parts, ROWS, WIDTH, LOG_WIDTH, PARTS, LOG_PARTS)
    for part in tl.static_range(PARTS):
        values = flipped(turned[part] * factor, tl.load(flips + part), WIDTH)
        if mean is not None:
            own = tl.load(mean + part * WIDTH + channel[None, :], mask=there, other=0.0)
            values = tl.where(there, values + own, values)  # -0 + 0 would be 0
        arrived = values.to(SINK)
        tl.store(into + part * WIDTH + at, arrived, mask=valid[:, None])
        if broken is not None:  # noqa: SIM102 (as below)
            if doubt > 0:
                most = tl.max(tl.max(magnitude_bits(arrived.to(tl.float32)), 1), 0)
                if most >= NOT_FINITE:
                    tl.store(broken, 1)


@triton.jit(do_not_specialize=COUNTED)
def quantize(pointers, sinks, memory, starts, stride, second, levels, broken, third, signs, flips,
             means, layers, lists, at, positions, list_size, by_row,
             batch, heads, tokens, by_example, by_head, by_token,
             to_example, to_head, to_token, WORD: tl.constexpr,
             ROWS: tl.constexpr, WIDTH: tl.constexpr, LOG_WIDTH: tl.constexpr,
             PARTS: tl.constexpr, LOG_PARTS: tl.constexpr, FINE: tl.constexpr, BITS: tl.constexpr,
             COARSE_BITS: tl.constexpr, BOUNDS: tl.constexpr, COARSE_BOUNDS: tl.constexpr,
             EPS: tl.constexpr, NORM: tl.constexpr, PLAIN: tl.constexpr,
             TYPE: tl.constexpr, SINK: tl.constexpr, ALIGNED: tl.constexpr,
             SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """Codes and scales of a tile where `sinks` is None; else the values that they stand for."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row, channel = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    valid = first + row < tokens
    base = rows_at(pointers, example, batch, head, first, by_example, by_head, by_token,
                   TYPE, ALIGNED)  # fmt: skip
    across = row[:, None] * by_token + channel[None, :]
    mean, there = means, valid[:, None]
    if means is not None:
        mean, there = mean_rows(means, layers, lists, at, positions, list_size, by_row, example,
                                batch, head, heads, first, valid, ROWS,
                                PARTS * WIDTH)  # fmt: skip
    parts = ()
    for part in tl.static_range(PARTS):
        parts = parts + (load_part(base, mean, part, across, valid, there, WIDTH),)
    total = sum_of_squares(parts, ROWS, WIDTH, LOG_WIDTH, PARTS, LOG_PARTS)
    if sinks is None:  # noqa: SIM102 (Triton knows no `and` of a constant and a number)
        if tl.max(magnitude_bits(total), 0) >= NOT_FINITE:  # or squares that are too large
            for part in tl.static_range(PARTS):
                again = load_part(base, mean, part, across, valid, there, WIDTH)
                if tl.max(tl.max(magnitude_bits(again), 1), 0) >= NOT_FINITE:
                    tl.store(broken, 1)
    half = tl.sqrt_rn(total * (1.0 / (PARTS * WIDTH)))
    half = tl.minimum(tl.maximum(half, EPS), LARGEST_HALF).to(tl.float16)
    wide = half.to(tl.float32)
    factor = (tl.div_rn(tl.full([ROWS], 1.0, tl.float32), wide) * NORM)[:, None]
    scaled = ()
    for part in tl.static_range(PARTS):
        sign = tl.load(signs + part * WIDTH + channel)[None, :]
        scaled = scaled + (parts[part] * factor * sign,)
    turned = hadamard(scaled, ROWS, WIDTH, LOG_WIDTH, PARTS, LOG_PARTS)
    ROW_BYTES: tl.constexpr = FINE * WIDTH * BITS // 8
    COARSE_BYTES: tl.constexpr = (PARTS - FINE) * WIDTH * COARSE_BITS // 8
    if sinks is None:
        payload = payload_of(memory, starts, stride, example, batch, WORD)
        before = (head * tokens + first).to(tl.int64)
        into = payload + tl.multiple_of(second, WORD) + before * ROW_BYTES
        coarse = payload + tl.multiple_of(third, WORD) + before * COARSE_BYTES
    values = ()
    for part in tl.static_range(PARTS):
        if part < FINE:
            numbers = nearest(turned[part], BOUNDS, (1 << (BITS - 1)) - 1, PLAIN)
            if sinks is None:
                store_numbers(into + part * (WIDTH * BITS // 8), numbers, valid, ROWS, WIDTH, BITS,
                              ROW_BYTES)  # fmt: skip
            else:
                values = values + (looked_up(levels, whole(numbers), PLAIN),)
        else:
            numbers = nearest(turned[part], COARSE_BOUNDS, (1 << (COARSE_BITS - 1)) - 1, PLAIN)
            if sinks is None:
                store_numbers(coarse + (part - FINE) * (WIDTH * COARSE_BITS // 8), numbers, valid,
                              ROWS, WIDTH, COARSE_BITS, COARSE_BYTES)  # fmt: skip
            else:
                values = values + (looked_up(levels + (1 << BITS), whole(numbers), PLAIN),)
    if sinks is None:
        tl.store(payload.to(tl.pointer_type(tl.float16)) + before + row, half, mask=valid)
    else:
        put(sinks, values, wide, flips, mean, there, 0, None, example, batch, head, first, valid,
            to_example, to_head, to_token, ROWS, WIDTH, LOG_WIDTH, PARTS, LOG_PARTS, NORM, SINK,
            SINK_ALIGNED)  # fmt: skip


@triton.jit(do_not_specialize=COUNTED)
def restore(sinks, memory, starts, stride, second, levels, broken, third, flips,
            means, layers, lists, at, positions, list_size, by_row, far,
            batch, heads, tokens, to_example, to_head, to_token, WORD: tl.constexpr,
            ROWS: tl.constexpr, WIDTH: tl.constexpr, LOG_WIDTH: tl.constexpr,
            PARTS: tl.constexpr, LOG_PARTS: tl.constexpr, FINE: tl.constexpr, BITS: tl.constexpr,
            COARSE_BITS: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr,
            REACH: tl.constexpr, MOST: tl.constexpr, HELD: tl.constexpr,
            SINK: tl.constexpr, SINK_ALIGNED: tl.constexpr,
            PLAIN: tl.constexpr):  # fmt: skip
    """The values that codes and scales stand for. `broken` is set for a scale that no encoder
    writes and, unless all values are HELD, where one is no finite number: they are looked at if a
    vector REACH times as long as its scale, and `far` more, has more than MOST."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row = tl.arange(0, ROWS)
    valid = first + row < tokens
    ROW_BYTES: tl.constexpr = FINE * WIDTH * BITS // 8
    COARSE_BYTES: tl.constexpr = (PARTS - FINE) * WIDTH * COARSE_BITS // 8
    payload = payload_of(memory, starts, stride, example, batch, WORD)
    before = (head * tokens + first).to(tl.int64)
    base = payload + tl.multiple_of(second, WORD) + before * ROW_BYTES
    coarse = payload + tl.multiple_of(third, WORD) + before * COARSE_BYTES
    values = ()
    for part in tl.static_range(PARTS):
        if part < FINE:
            own = base + part * (WIDTH * BITS // 8)
            numbers = load_numbers(own, valid, ROWS, WIDTH, BITS, ROW_BYTES)
            values = values + (looked_up(levels, numbers, PLAIN),)
        else:
            own = coarse + (part - FINE) * (WIDTH * COARSE_BITS // 8)
            numbers = load_numbers(own, valid, ROWS, WIDTH, COARSE_BITS, COARSE_BYTES)
            values = values + (looked_up(levels + (1 << BITS), numbers, PLAIN),)
    scales = payload.to(tl.pointer_type(tl.float16)) + before
    wide = tl.load(scales + row, mask=valid, other=1.0).to(tl.float32)
    sent = (wide >= EPS) & (wide <= LARGEST_HALF)  # neither holds for NaN
    if tl.max(1 - sent.to(tl.int32), 0) > 0:
        tl.store(broken, 1)
    doubt = tl.max(1 - (wide * REACH + far <= MOST).to(tl.int32), 0)
    told = None if HELD else broken
    mean, there = means, valid[:, None]
    if means is not None:
        mean, there = mean_rows(means, layers, lists, at, positions, list_size, by_row, example,
                                batch, head, heads, first, valid, ROWS,
                                PARTS * WIDTH)  # fmt: skip
    put(sinks, values, wide, flips, mean, there, doubt, told, example, batch, head, first, valid,
        to_example, to_head, to_token, ROWS, WIDTH, LOG_WIDTH, PARTS, LOG_PARTS, NORM, SINK,
        SINK_ALIGNED)  # fmt: skip
