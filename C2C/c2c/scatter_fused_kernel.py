"""What a projector adds to the receiver's cache, as one Triton kernel: each number read once."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def add(own, weight, branch, slots, examples, positions, rows,
        own_row, own_head, own_token, slot_row, slot_head, slot_token, branch_token, branch_head,
        weight_token, HEADS: tl.constexpr, HEAD_ROOM: tl.constexpr,
        D: tl.constexpr, D_ROOM: tl.constexpr):  # fmt: skip
    """A program a token: slots[row, :, position] = own[example, :, position] + weight * branch.

    In float32 and rounded once. The product of two 16-bit numbers is exact there.
    """
    token = tl.program_id(0).to(tl.int64)
    position = tl.load(positions + token)
    head, d = tl.arange(0, HEAD_ROOM)[:, None], tl.arange(0, D_ROOM)[None, :]
    valid = (head < HEADS) & (d < D)
    before = tl.load(own + tl.load(examples + token) * own_row + position * own_token
                     + head * own_head + d, mask=valid, other=0.0)  # fmt: skip
    w = tl.load(weight + token * weight_token + head, mask=head < HEADS, other=0.0)
    b = tl.load(branch + token * branch_token + head * branch_head + d, mask=valid, other=0.0)
    after = before.to(tl.float32) + w.to(tl.float32) * b.to(tl.float32)
    there = slots + tl.load(rows + token) * slot_row + position * slot_token + head * slot_head + d
    tl.store(there, after.to(slots.dtype.element_ty), mask=valid)
