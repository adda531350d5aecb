"""Tokens taken out of all tensors of a `Stack` in one launch; a program as in `scale_kernels`."""
# mypy: ignore-errors

import triton
import triton.language as tl

from latentwire.channel.kernels.scale_kernels import COUNTS, place, rows_at


@triton.jit(do_not_specialize=[*COUNTS, "lists", "rows"])
def take(pointers, index, taken, lists, rows, batch, heads, tokens, by_example, by_head, by_token,
         D: tl.constexpr, ROWS: tl.constexpr, TYPE: tl.constexpr,
         ALIGNED: tl.constexpr):  # fmt: skip
    """Into `taken` ([N, B, H, K, D] without gaps) the tokens at `index` (int64 [L, rows, K]
    likewise), whose list n % L is tensor n's, with a row for each example or one for all; `tokens`
    is K."""
    tile, head, example = place(tl.program_id(0), tl.cdiv(tokens, ROWS), heads)
    first = tile * ROWS
    row, channel = tl.arange(0, ROWS), tl.arange(0, D)
    there = first + row < tokens
    listed = (example // batch % lists).to(tl.int64) * rows + example % rows
    position = tl.load(index + listed * tokens + first + row, mask=there, other=0)
    base = rows_at(pointers, example, batch, head, tile * 0, by_example, by_head, by_token,
                   TYPE, ALIGNED)  # fmt: skip
    x = tl.load(base + position[:, None] * by_token + channel[None, :], mask=there[:, None])
    into = taken + ((example.to(tl.int64) * heads + head) * tokens + first) * D
    tl.store(into + row[:, None] * D + channel[None, :], x, mask=there[:, None])
