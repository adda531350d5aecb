"""Range coding of many streams at once, the arithmetic of docs/WIRE.md to the bit.

One program of one warp is one stream: a coder's steps follow from each other, so that only streams
go side by side. All threads of the warp do the same step, but for what they can share: 32 symbols
are read ahead by one load, and a symbol is looked for in 32 places at once. `lefts` holds the
left ends of all groups' symbols, int32, group after group, n + 1 of each.
"""
# mypy: ignore-errors
# ruff: noqa: RUF005 (Triton knows no iterable unpacking)

import triton
import triton.language as tl

WARP = tl.constexpr(32)
WORD = tl.constexpr(1 << 32)
FULL = tl.constexpr((1 << 32) - 1)
TOTAL_BITS = tl.constexpr(24)
TOTAL = tl.constexpr(1 << 24)
COUNTS = ("room",)  # arguments that differ from call to call: not worth another compilation


@triton.jit
def wide_of(word):
    """The bits of an int32 as a whole number below 2^32, uint64."""
    return word.to(tl.uint32, bitcast=True).to(tl.uint64)


@triton.jit
def word_of(wide):
    """The lower 32 bits of a uint64, as an int32."""
    return wide.to(tl.uint32).to(tl.int32, bitcast=True)


@triton.jit
def spare_bytes(width):
    """How many bytes at the end of 64 bits a multiple of 256^spare within `width` >= 2^32 leaves
    zero (int32): floor((b - 1) / 8), b the number of bits of `width`."""
    five = (width >> 40 != 0).to(tl.int32)
    six = (width >> 48 != 0).to(tl.int32)
    return 4 + five + six + (width >> 56 != 0).to(tl.int32)


@triton.jit
def put(out, written, cached, waiting, carry):
    """The word that was held back and the full ones behind it, now that the carry into them is
    known; how many words have been written then."""
    tl.store(out + written, word_of(cached + carry))
    for each in range(waiting):
        tl.store(out + written + 1 + each, word_of(carry + FULL))
    return written + 1 + waiting


@triton.jit(do_not_specialize=COUNTS)
def encode(symbols, starts, lefts, out, lengths, room, UNROLL: tl.constexpr):
    """The streams [B] of symbols `starts[b]` to `starts[b + 1]` - 1 (int64 [B + 1]), each given by
    its place in `lefts` (int32).

    Into `out` (int32 [B, room]) a word that means nothing, then the stream's, as whole numbers;
    into `lengths` (int32 [B]) how many bytes they are. A stream of no symbols has none.
    """
    stream = tl.program_id(0).to(tl.int64)
    start = tl.load(starts + stream)
    count = (tl.load(starts + stream + 1) - start).to(tl.int32)
    out += stream * room
    each = tl.arange(0, WARP)
    at = symbols + start + each
    lower = (start * 0).to(tl.uint64)
    span = lower - 1  # 2^64 - 1
    cached, carry = lower, lower  # the last word, which a carry may still change; whether one came
    waiting, written = count * 0, count * 0  # full words behind it; words in `out`
    place = tl.load(at, mask=each < count, other=0)
    for first in range(0, count, WARP):
        within = each < count - first
        left = tl.load(lefts + place, mask=within, other=0)
        wide = tl.load(lefts + place + 1, mask=within, other=0) - left
        ahead = first + WARP
        place = tl.load(at + ahead, mask=each < count - ahead, other=0)
        for block in range(0, WARP, UNROLL):
            # All threads get some symbols of one thread each, before the first step: an exchange
            # is not moved past a branch.
            lows, widths = (), ()
            for step in tl.static_range(UNROLL):
                own = each == block + step
                lows = lows + (tl.sum(tl.where(own, left, 0), 0),)
                widths = widths + (tl.sum(tl.where(own, wide, 0), 0),)
            for step in tl.static_range(UNROLL):
                scale = span >> TOTAL_BITS
                width = wide_of(widths[step])
                # Behind the last symbol all widths are 0, and nothing changes.
                span = tl.where(width != 0, scale * width, span)
                before = lower
                lower += scale * wide_of(lows[step])
                carry += (lower < before).to(tl.uint64)
                if span < WORD:
                    top = lower >> 32
                    if (top != FULL) | (carry != 0):
                        written = put(out, written, cached, waiting, carry)
                        waiting = waiting * 0
                        cached = top
                        carry = carry * 0
                    else:
                        waiting += 1
                    lower <<= 32
                    span <<= 32
    spare = spare_bytes(span)
    zeros = (8 * spare).to(tl.uint64)
    end = lower + ((lower * 0 + 1) << zeros) - 1
    carry += (end < lower).to(tl.uint64)
    end = end >> zeros << zeros
    written = put(out, written, cached, waiting, carry)
    tl.store(out + written, word_of(end >> 32))
    tl.store(out + written + 1, word_of(end))
    length = 4 * (written - 1) + 8 - spare
    tl.store(lengths + stream, tl.where(count == 0, 0, length))


@triton.jit
def measure(codes, streams, groups, lefts, lengths, UNROLL: tl.constexpr):
    """How many bytes (int32 [B]) the streams of B examples' codes are, without them: `encode` takes
    in a word where its span becomes short, and neither that nor its end depends on the words.

    `streams` and `groups` as in `decode`: codes [T, R] (int16, within their clips) begin where
    `streams` says. Of a stream of no tokens no code is read, and it has no bytes.
    """
    stream = tl.program_id(0).to(tl.int64)
    about = streams + 5 * stream
    tokens = tl.load(about).to(tl.int32)
    first_group, behind = tl.load(about + 1).to(tl.int32), tl.load(about + 2).to(tl.int32)
    components = tl.load(about + 3).to(tl.int32)
    codes += tl.load(about + 4)
    each = tl.arange(0, WARP)
    span = (components * 0).to(tl.uint64) - 1  # 2^64 - 1
    words, column = components * 0, components * 0
    for group in range(first_group, behind):
        table = tl.load(groups + 2 * group)
        size = tl.load(groups + 2 * group + 1)
        zero = lefts + table + (tl.load(groups + 2 * group + 2) - table - 1) // 2
        own, count = codes + column, tokens * size
        code = tl.load(own + each // size * components + each % size, mask=each < count, other=0)
        for first in range(0, count, WARP):
            place = zero + code.to(tl.int32)
            wide = tl.load(place + 1) - tl.load(place)
            wide = tl.where(each < count - first, wide, 0)
            ahead = first + WARP + each
            at = own + ahead // size * components + ahead % size
            code = tl.load(at, mask=ahead < count, other=0)
            for block in range(0, tl.minimum(WARP, count - first), UNROLL):
                widths = ()  # as in `encode`
                for step in tl.static_range(UNROLL):
                    widths = widths + (tl.sum(tl.where(each == block + step, wide, 0), 0),)
                for step in tl.static_range(UNROLL):
                    width = wide_of(widths[step])
                    span = tl.where(width != 0, (span >> TOTAL_BITS) * width, span)
                    short = span < WORD
                    span = tl.where(short, span << 32, span)
                    words += short.to(tl.int32)
        column += size
    length = 4 * words + 8 - spare_bytes(span)
    tl.store(lengths + stream, tl.where(tokens * components == 0, 0, length))


@triton.jit(do_not_specialize=COUNTS)
def decode(words, lengths, streams, groups, lefts, codes, right, room):
    """The codes of B streams, and of each whether it is what encoding them gives (int32 [B]).

    `words` is int32 [B, room], whole numbers, zeros behind the `lengths` (int32 [B]) bytes of each.
    `streams` is int64 [B, 5]: tokens, first group, group behind the last, components R, and where
    its codes [T, R] (int16) begin in `codes`. `groups` is int32 [G + 1, 2]: where a group's left
    ends begin in `lefts`, and its components. A stream that stands for nothing gives codes of its
    groups all the same.
    """
    stream = tl.program_id(0).to(tl.int64)
    words += stream * room
    about = streams + 5 * stream
    tokens = tl.load(about).to(tl.int32)
    first_group, behind = tl.load(about + 1).to(tl.int32), tl.load(about + 2).to(tl.int32)
    components = tl.load(about + 3)
    codes += tl.load(about + 4)
    each = tl.arange(0, WARP)
    taken = tokens * 0 + 2
    high = wide_of(tl.load(words))
    point = (high << 32) | wide_of(tl.load(words + 1))
    upcoming = tl.load(words + taken, mask=taken < room, other=0)
    span = high * 0 - 1  # 2^64 - 1
    column = components * 0
    for group in range(first_group, behind):
        table = tl.load(groups + 2 * group)
        size = tl.load(groups + 2 * group + 1)
        count = tl.load(groups + 2 * group + 2) - table - 1
        clip = count // 2
        near = tl.load(lefts + table + each, mask=each < count, other=TOTAL)
        into = codes + column
        for _token in range(tokens):
            for component in range(size):
                # `point` is counted from the interval's start. Left ends that lie at or below it:
                # the largest is the symbol's, the smallest of the others ends it. Where all do,
                # and so the total, the width becomes 0 and stays so.
                scale = span >> TOTAL_BITS
                below = scale * wide_of(near) <= point
                least = tl.where(below, near, 0)
                most = tl.where(below, TOTAL, near)
                found = below.to(tl.int32)
                for far in range(WARP, count, WARP):
                    lies = far + each < count
                    left = tl.load(lefts + table + far + each, mask=lies, other=TOTAL)
                    below = scale * wide_of(left) <= point
                    least = tl.maximum(least, tl.where(below, left, 0))
                    most = tl.minimum(most, tl.where(below, TOTAL, left))
                    found += (below & lies).to(tl.int32)
                low, end = tl.max(least, 0), tl.min(most, 0)
                symbol = tl.minimum(tl.sum(found, 0), count) - 1
                tl.store(into + component, (symbol - clip).to(tl.int16))
                point -= scale * wide_of(low)
                span = scale * wide_of(end - low)
                if span < WORD:
                    span <<= 32
                    point = (point << 32) | wide_of(upcoming)
                    taken += 1
                    upcoming = tl.load(words + taken, mask=taken < room, other=0)
            into += components
        column += size
    spare = spare_bytes(span)
    length = tl.where(first_group == behind, 0, 8 + 4 * (taken - 2) - spare)
    # The least number of so many bytes in the interval is less than one of its steps away.
    nearest = point >> (8 * spare).to(tl.uint64) == 0
    good = (span != 0) & (tl.load(lengths + stream) == length) & nearest
    tl.store(right + stream, good.to(tl.int32))
