"""A root-mean-square norm with its weight as one Triton kernel, rounded as transformers does it."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
def rms_norm(x, weight, out, rows, eps, D: tl.constexpr, D_ROOM: tl.constexpr,
             ROWS: tl.constexpr):  # fmt: skip
    """A program some rows of D numbers: weight * x / rms(x) in float32, of which the quotient and
    the product are rounded to their dtype."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    d = tl.arange(0, D_ROOM)[None, :]
    valid = (row < rows) & (d < D)
    read = tl.load(x + row * D + d, mask=valid, other=0.0)
    wide = read.to(tl.float32)
    mean = tl.sum(wide * wide, 1) / D
    quotient = (wide * tl.rsqrt(mean + eps)[:, None]).to(read.dtype).to(tl.float32)
    w = tl.load(weight + d, mask=d < D, other=0.0).to(tl.float32)
    tl.store(out + row * D + d, (quotient * w).to(read.dtype), mask=valid)
