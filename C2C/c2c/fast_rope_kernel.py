"""The rotary embedding of queries and keys as one Triton kernel, rounded as transformers rounds it.

transformers takes eight kernels, each of which reads and writes everything: two products, a sum, a
negation and a concatenation, for queries and for keys.
"""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def turned(x, other, cos, sin):
    """x * cos + other * sin; both products and the sum are rounded to their dtype."""
    kind = x.dtype
    first = (x.to(tl.float32) * cos.to(tl.float32)).to(kind).to(tl.float32)
    second = (other.to(tl.float32) * sin.to(tl.float32)).to(kind).to(tl.float32)
    return (first + second).to(kind)


@triton.jit
def turn(x, out, row, token, x_row, x_head, x_token, o_row, o_head, o_token, cos, sin,
         HEADS: tl.constexpr, ROOM: tl.constexpr, HALF: tl.constexpr):  # fmt: skip
    """All heads of one token: the second half of a head is the first's partner."""
    head, d = tl.arange(0, ROOM), tl.arange(0, HALF)
    cos_0, cos_1 = tl.load(cos + d)[None, :], tl.load(cos + HALF + d)[None, :]
    sin_0, sin_1 = tl.load(sin + d)[None, :], tl.load(sin + HALF + d)[None, :]
    here = x + row * x_row + token * x_token + head[:, None] * x_head + d[None, :]
    there = out + row * o_row + token * o_token + head[:, None] * o_head + d[None, :]
    valid = head[:, None] < HEADS
    low = tl.load(here, mask=valid, other=0.0)
    high = tl.load(here + HALF, mask=valid, other=0.0)
    tl.store(there, turned(low, -high, cos_0, sin_0), mask=valid)
    tl.store(there + HALF, turned(high, low, cos_1, sin_1), mask=valid)


@triton.jit(do_not_specialize=["tokens"])
def rotate(query, key, cos, sin, query_out, key_out, tokens,
           q_row, q_head, q_token, qo_row, qo_head, qo_token,
           k_row, k_head, k_token, ko_row, ko_head, ko_token,
           c_row, c_token, s_row, s_token,
           Q_HEADS: tl.constexpr, Q_ROOM: tl.constexpr, K_HEADS: tl.constexpr,
           K_ROOM: tl.constexpr, HALF: tl.constexpr):  # fmt: skip
    """A program a token of a row."""
    place = tl.program_id(0).to(tl.int64)
    row, token = place // tokens, place % tokens
    cos += row * c_row + token * c_token
    sin += row * s_row + token * s_token
    turn(query, query_out, row, token, q_row, q_head, q_token, qo_row, qo_head, qo_token, cos, sin,
         Q_HEADS, Q_ROOM, HALF)  # fmt: skip
    turn(key, key_out, row, token, k_row, k_head, k_token, ko_row, ko_head, ko_token, cos, sin,
         K_HEADS, K_ROOM, HALF)  # fmt: skip
