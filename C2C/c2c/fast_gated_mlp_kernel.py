"""silu(gate) * up as one Triton kernel, rounded as PyTorch rounds its two."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"])
def gate_by(gate, up, count, BLOCK: tl.constexpr):
    """A program a block of numbers: gate = silu(gate) * up, both rounded to their dtype."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = place < count
    read = tl.load(gate + place, mask=valid, other=0.0)
    wide = read.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(read.dtype).to(tl.float32)
    factor = tl.load(up + place, mask=valid, other=0.0).to(tl.float32)
    tl.store(gate + place, (silu * factor).to(read.dtype), mask=valid)
