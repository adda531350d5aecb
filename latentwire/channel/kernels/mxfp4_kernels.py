"""The kernels of MXFP4: blocks of SIZE channels of a token with a power of two as scale.

Programs and payloads as in `scale_kernels`, but that a scale is a byte, its exponent + BIAS.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from latentwire.channel.kernels.codec_math import (
    NOT_FINITE,
    TO_INTEGER,
    TO_INTEGER_BITS,
    load_codes,
    magnitude_bits,
    store_codes,
)
from latentwire.channel.kernels.scale_kernels import (
    PLACES,
    load_tile,
    payload_of,
    place,
    store_tile,
)

SIZE = tl.constexpr(32)
BIAS = tl.constexpr(127)
TOP = tl.constexpr(2)  # exponent of the largest code
OF_ZEROS = tl.constexpr(124)  # byte of a block of zeros, whose largest magnitude counts as a half
NOT_A_NUMBER = tl.constexpr(255)


@triton.jit
def times_power(x, exponent):
    """x * 2^exponent (from -127 to 128, of each block), in two factors: at either end one has no
    bits as a normal number."""
    half = exponent >> 1
    rest = exponent - half
    x = x * ((half + BIAS) << 23).to(tl.float32, bitcast=True)[:, :, None]
    return x * ((rest + BIAS) << 23).to(tl.float32, bitcast=True)[:, :, None]


@triton.jit
def codes_of(x):
    """Nearest codes (int32) of 0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign; middles go to even ones.

    Below 2, from there to 4, and from 4 on, codes are as far apart as whole numbers times a half,
    one and two.
    """
    size = tl.abs(x)
    steps = tl.where(size < 2.0, size * 2.0, tl.where(size < 4.0, size, size * 0.5))
    before = tl.where(size < 2.0, 0, tl.where(size < 4.0, 2, 4))
    codes = (steps + TO_INTEGER).to(tl.int32, bitcast=True) - TO_INTEGER_BITS + before
    return tl.minimum(codes, 7) + 8 * (x < 0.0).to(tl.int32)


@triton.jit
def values_of(codes):
    """What codes stand for (float32) before the scale: exponent and mantissa stand in their bits as
    in a float32's, but for the two smallest."""
    size = codes & 7
    normal = ((size << 22) + (126 << 23)).to(tl.float32, bitcast=True)
    values = tl.where(size < 2, size.to(tl.float32) * 0.5, normal)
    return (values.to(tl.int32, bitcast=True) | ((codes >> 3) << 31)).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=PLACES)
def quantize(pointers, sinks, memory, starts, stride, second, broken,
             batch, heads, tokens, by_example, by_head, by_token,
             to_example, to_head, to_token, WORD: tl.constexpr,
             D: tl.constexpr, ROWS: tl.constexpr, TYPE: tl.constexpr, SINK: tl.constexpr,
             ALIGNED: tl.constexpr, SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """Codes and scales of a tile where `sinks` is None; else the values that they stand for."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row = tl.arange(0, ROWS)
    valid = first + row < tokens
    x = load_tile(pointers, example, batch, head, first, by_example, by_head, by_token, valid,
                  ROWS, D, TYPE, ALIGNED)  # fmt: skip
    BLOCKS: tl.constexpr = D // SIZE
    parts = tl.reshape(x, [ROWS, BLOCKS, SIZE])
    most = tl.max(magnitude_bits(parts), 2)
    biased = tl.maximum((most >> 23) - TOP, 0)  # a subnormal's exponent is further below
    biased = tl.where(most == 0, OF_ZEROS, biased)
    numbers = codes_of(times_power(parts, BIAS - biased))
    if sinks is None:
        if tl.max(tl.max(most, 1), 0) >= NOT_FINITE:
            tl.store(broken, 1)
        payload = payload_of(memory, starts, stride, example, batch, WORD)
        into = payload + (head * tokens + first).to(tl.int64) * BLOCKS
        own = row[:, None] * BLOCKS + tl.arange(0, BLOCKS)[None, :]
        tl.store(into + own, biased.to(tl.uint8), mask=valid[:, None])
        ROW_BYTES: tl.constexpr = D // 2
        into = payload + tl.multiple_of(second, WORD)
        into += (head * tokens + first).to(tl.int64) * ROW_BYTES
        store_codes(into, tl.reshape(numbers, [ROWS, D]), valid, ROWS, D, 4)
    else:
        values = tl.reshape(times_power(values_of(numbers), biased - BIAS), [ROWS, D])
        store_tile(sinks, values.to(SINK), example, batch, head, first, to_example, to_head,
                   to_token, valid, ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip


@triton.jit(do_not_specialize=PLACES)
def restore(sinks, memory, starts, stride, second, broken, batch, heads, tokens,
            to_example, to_head, to_token, WORD: tl.constexpr,
            D: tl.constexpr, ROWS: tl.constexpr,
            SINK: tl.constexpr, SINK_ALIGNED: tl.constexpr):  # fmt: skip
    """The values that codes and scales stand for; `broken` is set where some are no numbers."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row = tl.arange(0, ROWS)
    valid = first + row < tokens
    BLOCKS: tl.constexpr = D // SIZE
    ROW_BYTES: tl.constexpr = D // 2
    payload = payload_of(memory, starts, stride, example, batch, WORD)
    base = payload + tl.multiple_of(second, WORD)
    base += (head * tokens + first).to(tl.int64) * ROW_BYTES
    numbers = load_codes(base, valid, ROWS, D, 4)
    base = payload + (head * tokens + first).to(tl.int64) * BLOCKS
    own = row[:, None] * BLOCKS + tl.arange(0, BLOCKS)[None, :]
    biased = tl.load(base + own, mask=valid[:, None], other=0).to(tl.int32)
    if tl.max(tl.max(biased, 1), 0) == NOT_A_NUMBER:
        tl.store(broken, 1)
    parts = values_of(tl.reshape(numbers, [ROWS, BLOCKS, SIZE]))
    values = tl.reshape(times_power(parts, biased - BIAS), [ROWS, D])
    values = tl.where(valid[:, None], values, 0.0).to(SINK)
    if tl.max(tl.max(magnitude_bits(values.to(tl.float32)), 1), 0) >= NOT_FINITE:
        tl.store(broken, 1)
    store_tile(sinks, values, example, batch, head, first, to_example, to_head, to_token, valid,
               ROWS, D, SINK, SINK_ALIGNED)  # fmt: skip
