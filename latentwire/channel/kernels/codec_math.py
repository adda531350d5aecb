"""The codecs' arithmetic on a tile [ROWS, D] of one head's tokens, for the kernels.

Bit for bit the reference's: divisions and square roots are correctly rounded, halves go to the even
code, and kernels are compiled without contracting a product and a sum into one rounding. What is
fused on purpose is `tl.fma`.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

# Added to a number of magnitude below 2^22, it leaves the nearest integer (halves to even) in the
# low bits of the sum.
TO_INTEGER = tl.constexpr(12582912.0)
TO_INTEGER_BITS = tl.constexpr(0x4B400000)
NOT_FINITE = tl.constexpr(0x7F800000)  # bits of infinity; those of NaN are larger
LARGEST_HALF = tl.constexpr(65504.0)


@triton.jit
def magnitude_bits(x):
    """Bits of |x| (int32): in the order of the magnitudes, NaN last."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def quotient(x, divisor, shape: tl.constexpr, CORRECTIONS: tl.constexpr):
    """x / divisor, correctly rounded; `divisor` broadcasts to `shape`, x's.

    With CORRECTIONS, by one division a divisor and so many fused corrections a number. After the
    first, the result is off by less than 2^-23 ulp before it is rounded. That rounds correctly for
    a divisor of 11 bits, as a float16 has, since no quotient by one is nearer than 2^-12 ulp to the
    middle between two float32 numbers; for any other, a second correction does (Markstein, 1990).
    Exact where no residual underflows: where one does, the quotient is far below half a code.
    """
    if CORRECTIONS:
        one = tl.full(divisor.shape, 1.0, tl.float32)
        inverse = tl.broadcast_to(tl.div_rn(one, divisor), shape)
        divisor = tl.broadcast_to(divisor, shape)
        result = x * inverse
        for _ in tl.static_range(CORRECTIONS):
            result = tl.fma(tl.fma(-result, divisor, x), inverse, result)
    else:
        result = tl.div_rn(x, tl.broadcast_to(divisor, shape))
    return result


@triton.jit
def interval(x, table, LEVELS: tl.constexpr, PER_UNIT: tl.constexpr, LOW: tl.constexpr,
             CELLS: tl.constexpr):  # fmt: skip
    """How many of some ascending boundaries lie below x (int32).

    By a table of CELLS cells of width 1 / PER_UNIT, the first around LOW / PER_UNIT: in each lies
    one boundary at most. `table` holds LEVELS levels, then of each cell its boundary, and then (as
    the bits of whole numbers) how many lie below the cell.
    """
    width = tl.full(x.shape, PER_UNIT, tl.float32)
    low = tl.maximum(x, -4096.0)  # or the sum below could be negative, and its order reversed
    shifted = tl.fma(low, width, tl.full(x.shape, TO_INTEGER, tl.float32))
    # Bits of floats are in the order of the floats, so that what lies far outside, and what is no
    # number, ends in the last cell or the first.
    cell = shifted.to(tl.int32, bitcast=True) - (TO_INTEGER_BITS + LOW)
    cell = tl.minimum(tl.maximum(cell, 0), CELLS - 1)
    boundary = tl.load(table + LEVELS + cell)
    below = tl.load(table + LEVELS + CELLS + cell).to(tl.int32, bitcast=True)
    return below + (x > boundary).to(tl.int32)


@triton.jit
def codes_of(x, scale, table, shape: tl.constexpr, RULE: tl.constexpr, LIMIT: tl.constexpr,
              CORRECTIONS: tl.constexpr, LEVELS: tl.constexpr,
             PER_UNIT: tl.constexpr, LOW: tl.constexpr, CELLS: tl.constexpr):  # fmt: skip
    """Codes as they stand in the packet (int32, >= 0) of x and a scale that broadcasts."""
    if RULE == "integer":
        scaled = quotient(x, scale, shape, CORRECTIONS)
        scaled = tl.minimum(tl.maximum(scaled, -LIMIT), LIMIT) + TO_INTEGER
        codes = scaled.to(tl.int32, bitcast=True) - (TO_INTEGER_BITS - int(LIMIT))
    elif RULE == "nf4":
        scaled = quotient(x, scale, shape, CORRECTIONS)
        codes = interval(scaled, table, LEVELS, PER_UNIT, LOW, CELLS)
    else:
        scaled = quotient(x, scale, shape, CORRECTIONS)
        # The corrections lose the sign of a zero, which these codes keep.
        scaled = tl.where(scaled == 0.0, x * 0.0, scaled)
        scaled = tl.minimum(tl.maximum(scaled, -LIMIT), LIMIT)
        if RULE == "e4m3":  # noqa: SIM108 (the branches differ in type)
            small = scaled.to(tl.float8e4nv)
        else:
            small = scaled.to(tl.float8e5)
        codes = small.to(tl.uint8, bitcast=True).to(tl.int32)
    return codes


@triton.jit
def values_of(codes, levels, RULE: tl.constexpr, LIMIT: tl.constexpr):
    """What codes stand for before the scale (float32); `levels` points to a table of levels."""
    if RULE == "integer":
        shifted = (codes + (TO_INTEGER_BITS - int(LIMIT))).to(tl.float32, bitcast=True)
        values = shifted - TO_INTEGER
    elif RULE == "e4m3":
        values = codes.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(tl.float32)
    elif RULE == "e5m2":
        values = codes.to(tl.uint8).to(tl.float8e5, bitcast=True).to(tl.float32)
    else:
        values = tl.load(levels + codes)
    return values


@triton.jit
def joined(x, BITS: tl.constexpr, ROWS: tl.constexpr, COUNT: tl.constexpr):
    """Each of the COUNT pairs of neighbours of a row as one number, the second BITS bits higher."""
    low, high = tl.split(tl.reshape(x, [ROWS, COUNT, 2]))
    return low | (high << BITS)


@triton.jit
def store_octets(base, octets, keep, ROWS: tl.constexpr, COUNT: tl.constexpr,
                 ROW_BYTES: tl.constexpr):  # fmt: skip
    """Eight codes of 3 bits in each of COUNT numbers [ROWS, COUNT]: 32 codes are three words. Where
    `keep`; rows are ROW_BYTES apart, and `base` and they multiples of 4 bytes."""
    even, odd = tl.split(tl.reshape(octets, [ROWS, COUNT // 2, 2]))
    first, third = tl.split(tl.reshape(even, [ROWS, COUNT // 4, 2]))
    second, fourth = tl.split(tl.reshape(odd, [ROWS, COUNT // 4, 2]))
    row = tl.arange(0, ROWS)[:, None]
    at = row * (ROW_BYTES // 4) + 3 * tl.arange(0, COUNT // 4)[None, :]
    into = base.to(tl.pointer_type(tl.int32)) + at
    tl.store(into, first | (second << 24), mask=keep)
    tl.store(into + 1, (second >> 8) | (third << 16), mask=keep)
    tl.store(into + 2, (third >> 16) | (fourth << 8), mask=keep)


@triton.jit
def store_codes(base, codes, valid, ROWS: tl.constexpr, D: tl.constexpr, BITS: tl.constexpr):
    """Codes [ROWS, D] at `base`, 2, 3, 4 or 8 bits each, the first in the low bits; where `valid`.

    Rows of 3 bits are words of 32 bits: `base` is a multiple of 4 bytes there.
    """
    row = tl.arange(0, ROWS)[:, None]
    keep = valid[:, None]
    if BITS == 3:
        octets = joined(joined(joined(codes, 3, ROWS, D // 2), 6, ROWS, D // 4), 12, ROWS, D // 8)
        store_octets(base, octets, keep, ROWS, D // 8, 3 * D // 8)
    else:
        packed = codes
        if BITS == 2:
            packed = joined(packed, 2, ROWS, D // 2)
        if BITS <= 4:
            packed = joined(packed, 4, ROWS, D * BITS // 8)
        at = row * (D * BITS // 8) + tl.arange(0, D * BITS // 8)[None, :]
        tl.store(base + at, packed.to(tl.uint8), mask=keep)


@triton.jit
def load_codes(base, valid, ROWS: tl.constexpr, D: tl.constexpr, BITS: tl.constexpr):
    """What `store_codes` stored (int32 [ROWS, D]), and zero where not `valid`."""
    row = tl.arange(0, ROWS)[:, None]
    keep = valid[:, None]
    if BITS == 8:
        at = row * D + tl.arange(0, D)[None, :]
        codes = tl.load(base + at, mask=keep, other=0).to(tl.int32)
    elif BITS == 4:
        at = row * (D // 2) + tl.arange(0, D // 2)[None, :]
        packed = tl.load(base + at, mask=keep, other=0).to(tl.int32)
        codes = tl.reshape(tl.join(packed & 15, packed >> 4), [ROWS, D])
    else:  # as many codes at once as fill some bytes, which stay with one thread
        tl.static_assert(BITS == 2 or BITS == 3)
        BYTES: tl.constexpr = 3 if BITS == 3 else 1
        CODES: tl.constexpr = 8 * BYTES // BITS
        at = base + row * (D * BITS // 8) + BYTES * tl.arange(0, D // CODES)[None, :]
        packed = tl.load(at, mask=keep, other=0).to(tl.int32)
        for byte in tl.static_range(1, BYTES):
            packed |= tl.load(at + byte, mask=keep, other=0).to(tl.int32) << (8 * byte)
        places = (BITS * tl.arange(0, CODES))[None, None, :]
        codes = tl.reshape((packed[:, :, None] >> places) & ((1 << BITS) - 1), [ROWS, D])
    return codes
