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
def interval(x, table, B: tl.constexpr, COUNT: tl.constexpr, LEVELS: tl.constexpr,
             PER_UNIT: tl.constexpr, LOW: tl.constexpr, CELLS: tl.constexpr):  # fmt: skip
    """How many of the COUNT ascending boundaries lie below x (int32).

    Up to 7 by bisection (of 7, a table was slower, measured); of more by a table of CELLS cells of
    width 1 / PER_UNIT, the first around LOW / PER_UNIT: in each lies one boundary at most. `table`
    holds LEVELS levels, then of each cell its boundary, and then (as the bits of whole numbers) how
    many lie below the cell.
    """
    if COUNT == 0:
        code = tl.zeros(x.shape, tl.int32)
    elif COUNT == 1:
        code = (x > B[0]).to(tl.int32)
    elif COUNT == 3:
        up1 = x > B[1]
        up0 = x > tl.where(up1, B[2], B[0])
        code = up1.to(tl.int32) * 2 + up0.to(tl.int32)
    elif COUNT == 7:
        up2 = x > B[3]
        up1 = x > tl.where(up2, B[5], B[1])
        up0 = x > tl.where(up2, tl.where(up1, B[6], B[4]), tl.where(up1, B[2], B[0]))
        code = up2.to(tl.int32) * 4 + up1.to(tl.int32) * 2 + up0.to(tl.int32)
    else:
        tl.static_assert(CELLS > 0)
        width = tl.full(x.shape, PER_UNIT, tl.float32)
        low = tl.maximum(x, -4096.0)  # or the sum below could be negative, and its order reversed
        shifted = tl.fma(low, width, tl.full(x.shape, TO_INTEGER, tl.float32))
        # Bits of floats are in the order of the floats, so that what lies far outside, and what is
        # no number, ends in the last cell or the first.
        cell = shifted.to(tl.int32, bitcast=True) - (TO_INTEGER_BITS + LOW)
        cell = tl.minimum(tl.maximum(cell, 0), CELLS - 1)
        boundary = tl.load(table + LEVELS + cell)
        below = tl.load(table + LEVELS + CELLS + cell).to(tl.int32, bitcast=True)
        code = below + (x > boundary).to(tl.int32)
    return code


@triton.jit
def codes_of(x, scale, table, shape: tl.constexpr, RULE: tl.constexpr, BOUNDS: tl.constexpr,
             LIMIT: tl.constexpr, CORRECTIONS: tl.constexpr, LEVELS: tl.constexpr,
             PER_UNIT: tl.constexpr, LOW: tl.constexpr, CELLS: tl.constexpr):  # fmt: skip
    """Codes as they stand in the packet (int32, >= 0) of x and a scale that broadcasts."""
    if RULE == "integer":
        scaled = quotient(x, scale, shape, CORRECTIONS)
        scaled = tl.minimum(tl.maximum(scaled, -LIMIT), LIMIT) + TO_INTEGER
        codes = scaled.to(tl.int32, bitcast=True) - (TO_INTEGER_BITS - int(LIMIT))
    elif RULE == "nf4":
        scaled = quotient(x, scale, shape, CORRECTIONS)
        codes = interval(scaled, table, BOUNDS, 15, LEVELS, PER_UNIT, LOW, CELLS)
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
def root_mean_square(x, ROWS: tl.constexpr, D: tl.constexpr, LOG_D: tl.constexpr):
    """sqrt(mean of x^2) of each row (float32 [ROWS]), neighbours added in pairs."""
    total = x * x
    for step in tl.static_range(LOG_D):  # each sum is of two numbers: its order is fixed
        total = tl.sum(tl.reshape(total, [ROWS, D >> (step + 1), 2]), 2)
    return tl.sqrt_rn(tl.reshape(total, [ROWS]) * (1.0 / D))


@triton.jit
def hadamard(x, ROWS: tl.constexpr, D: tl.constexpr, LOG_D: tl.constexpr, SPLITS: tl.constexpr):
    """The transform of each row, by sums and differences of neighbours 1, 2, 4, ... apart.

    The first SPLITS steps join numbers that one thread holds; in the others each number meets its
    partner by an exclusive or over the two, which is one exchange between threads.
    """
    for step in tl.static_range(LOG_D):
        pairs = tl.reshape(x, [ROWS * D // (2 << step), 2, 1 << step])
        if step < SPLITS:
            first, second = tl.split(tl.permute(pairs, (0, 2, 1)))
            pairs = tl.permute(tl.join(first + second, first - second), (0, 2, 1))
        else:
            own = pairs.to(tl.int32, bitcast=True)
            partner = (tl.xor_sum(own, 1, keep_dims=True) ^ own).to(tl.float32, bitcast=True)
            # 1 and -1: the product is exact, so that only the sum is rounded.
            side = tl.broadcast_to(1.0 - 2.0 * tl.arange(0, 2)[None, :, None], pairs.shape)
            pairs = tl.fma(pairs, side.to(tl.float32), partner)
        x = tl.reshape(pairs, [ROWS, D])
    return x


@triton.jit
def nearest(x, table, BOUNDS: tl.constexpr, COUNT: tl.constexpr, LEVELS: tl.constexpr,
            PER_UNIT: tl.constexpr, LOW: tl.constexpr, CELLS: tl.constexpr):  # fmt: skip
    """Number of the level nearest to x, of 2 (COUNT + 1) that mirror each other."""
    magnitude = interval(tl.abs(x), table, BOUNDS, COUNT, LEVELS, PER_UNIT, LOW, CELLS)
    return tl.where(x < 0, COUNT - magnitude, COUNT + 1 + magnitude)


@triton.jit
def store_codes(base, codes, valid, ROWS: tl.constexpr, D: tl.constexpr, BITS: tl.constexpr):
    """Codes [ROWS, D] at `base`, BITS each, the first code in the lowest bits; where `valid`."""
    row = tl.arange(0, ROWS)[:, None]
    if BITS == 8:
        at = row * D + tl.arange(0, D)[None, :]
        tl.store(base + at, codes.to(tl.uint8), mask=valid[:, None])
    else:
        low, high = tl.split(tl.reshape(codes, [ROWS, D // 2, 2]))
        packed = low | (high << BITS)
        if BITS == 4:
            at = row * (D // 2) + tl.arange(0, D // 2)[None, :]
            tl.store(base + at, packed.to(tl.uint8), mask=valid[:, None])
        else:
            low, high = tl.split(tl.reshape(packed, [ROWS, D // 4, 2]))
            packed = low | (high << (2 * BITS))
            if BITS == 2:
                at = row * (D // 4) + tl.arange(0, D // 4)[None, :]
                tl.store(base + at, packed.to(tl.uint8), mask=valid[:, None])
            else:
                tl.static_assert(BITS == 3)
                low, high = tl.split(tl.reshape(packed, [ROWS, D // 8, 2]))
                packed = low | (high << (4 * BITS))  # eight codes, three bytes
                at = row * (3 * D // 8) + 3 * tl.arange(0, D // 8)[None, :]
                for byte in tl.static_range(3):
                    part = (packed >> (8 * byte)).to(tl.uint8)
                    tl.store(base + at + byte, part, mask=valid[:, None])


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
    else:
        if BITS == 2:
            at = row * (D // 4) + tl.arange(0, D // 4)[None, :]
            packed = tl.load(base + at, mask=keep, other=0).to(tl.int32)
        else:
            tl.static_assert(BITS == 3)
            at = row * (3 * D // 8) + 3 * tl.arange(0, D // 8)[None, :]
            packed = tl.load(base + at, mask=keep, other=0).to(tl.int32)
            packed |= tl.load(base + at + 1, mask=keep, other=0).to(tl.int32) << 8
            packed |= tl.load(base + at + 2, mask=keep, other=0).to(tl.int32) << 16
            packed = tl.reshape(tl.join(packed & 4095, packed >> 12), [ROWS, D // 4])
        HALF: tl.constexpr = (1 << (2 * BITS)) - 1
        pairs = tl.reshape(tl.join(packed & HALF, packed >> (2 * BITS)), [ROWS, D // 2])
        MASK: tl.constexpr = (1 << BITS) - 1
        codes = tl.reshape(tl.join(pairs & MASK, pairs >> BITS), [ROWS, D])
    return codes
