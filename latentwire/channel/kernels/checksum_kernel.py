"""CRC-32 of the rows of a buffer: each program folds a segment of a row into the row's checksum.

A message is the polynomial of its bits modulo P (reflected: a word's lowest bit is its highest
power). Of 32-bit words w_0 to w_{K-1}, with 0 as the register's start, the remainder is the sum
(the exclusive or) of w_k * x^(32 (K - k)): each word by itself, so that they can be taken in any
order, and zeros in front add nothing. See `latentwire.channel.checksum` for start and end.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

# Their values call for no code of their own, so that a new length compiles nothing.
COUNTS = ["stride", "first", "words", "segments", "steps", "mask", "constant"]


@triton.jit
def times_constant(x, POWERS: tl.constexpr):
    """x * c mod P (int32), where POWERS[i] is what bit i of x stands for, times c."""
    product = x & 0
    for bit in tl.static_range(32):
        # All bits are the one asked for, or none.
        product ^= ((x << (31 - bit)) >> 31) & POWERS[bit]
    return product


@triton.jit
def times(x, factor, POLYNOMIAL: tl.constexpr):
    """x * factor mod P (int32)."""
    product = x & 0
    for bit in tl.static_range(32):
        product ^= ((x << bit) >> 31) & factor
        lowest = (factor << 31) >> 31
        factor = ((factor >> 1) & 0x7FFFFFFF) ^ (lowest & POLYNOMIAL)
    return product


@triton.jit(do_not_specialize=COUNTS)
def fold(rows, lane_factors, segment_factors, stride, first, words, segments, steps, mask,
         constant, LANES: tl.constexpr, POWERS: tl.constexpr,
         POLYNOMIAL: tl.constexpr):  # fmt: skip
    """Add (exclusive or) the checksum of words `first` to first + words - 1 of each row, `stride`
    words (int32) apart, to the word behind them. Of the first word only the bits of `mask` count;
    `constant` is added too.

    A program takes a segment of LANES * steps words, each lane of it every LANES-th word. Segments
    and lanes are counted from the end, so that no factor depends on the message's length.
    """
    row, segment = tl.program_id(0) // segments, tl.program_id(0) % segments
    base = rows + row.to(tl.int64) * stride + first
    lane = tl.arange(0, LANES)
    start = words - (segment + 1) * (LANES * steps)  # below 0 in a row's first segment
    state = tl.zeros([LANES], tl.int32)
    for step in range(steps):
        at = start + step * LANES + lane
        word = tl.load(base + at, mask=at >= 0, other=0)
        word = tl.where(at == 0, word & mask, word)
        state = times_constant(state, POWERS) ^ word
    state = times(state, tl.load(lane_factors + lane), POLYNOMIAL)
    found = times(tl.xor_sum(state, 0), tl.load(segment_factors + segment), POLYNOMIAL)
    if segment == 0:
        found ^= constant
    tl.atomic_xor(base + words, found, sem="relaxed")
