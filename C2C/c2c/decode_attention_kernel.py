"""The attention of one more token in each row over its cache of slots, as one Triton kernel.

What `slot_cache.attend` gives for a pass over one token a row, with two differences in what it
costs: a row reads its own slots and no more, and takes as many as it has without being told by the
host, so that a recorded step serves rows of any length. Sums are in float32, weights are rounded to
the cache's dtype before they meet the values, as in FlashAttention (arXiv:2205.14135).
"""
# mypy: ignore-errors

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["window"])
def attend_last(query, new_key, new_value, keys, values, rows, row_slots, positions, out, scale,
                window, q_row, q_head, k_row, k_head, v_row, v_head,
                G: tl.constexpr, ROWS: tl.constexpr, D: tl.constexpr,
                BLOCK: tl.constexpr):  # fmt: skip
    """A program a query row and KV head, for the G query heads that share it (in ROWS, some empty).

    Puts the new key and value in the slot of the row's position, and `out` [R, H * G, D]. The slots
    of query row r are those of row rows[r], of which each has row_slots[0].
    """
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    position = tl.load(positions + row)
    group, d, block = tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, BLOCK)
    here = (tl.load(rows + row) * tl.num_programs(1) + head) * tl.load(row_slots) * D
    key = tl.load(new_key + row * k_row + head * k_head + d)
    value = tl.load(new_value + row * v_row + head * v_head + d)
    tl.store(keys + here + position * D + d, key)
    tl.store(values + here + position * D + d, value)
    q_at = row * q_row + (head * G + group[:, None]) * q_head + d[None, :]
    q = tl.load(query + q_at, mask=group[:, None] < G, other=0.0)
    # The new token's own part first: no slot needs to be read back. Scores are in powers of 2.
    scale = scale * LOG2E
    most = tl.sum(q.to(tl.float32) * key.to(tl.float32)[None, :], 1) * scale
    total = tl.full([ROWS], 1.0, tl.float32)
    sums = tl.zeros([ROWS, D], tl.float32) + value.to(tl.float32)[None, :]
    first = tl.maximum(position - window + 1, 0)
    for start in range(first // BLOCK * BLOCK, position, BLOCK):
        slot = start + block
        seen = (slot >= first) & (slot < position)
        at = here + slot[:, None] * D + d[None, :]
        k = tl.load(keys + at, mask=seen[:, None], other=0.0)
        v = tl.load(values + at, mask=seen[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(most - higher)
        total = total * shrink + tl.sum(weights, 1)
        sums = tl.dot(weights.to(v.dtype), v, sums * shrink[:, None], input_precision="ieee")
        most = higher
    sums = sums / total[:, None]
    out_at = (row * tl.num_programs(1) + head) * G * D + group[:, None] * D + d[None, :]
    tl.store(out + out_at, sums.to(out.dtype.element_ty), mask=group[:, None] < G)
