"""What the last tokens of each row attend to, of all layers in one launch; see
`selectors.attention.attended`, which this equals but for the order of sums."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _scores(q, at, keys, start, length, by_token, D: tl.constexpr, BLOCK: tl.constexpr):
    """Logits [W, BLOCK] of queries [W, D] that stand at `at`; minus infinity for keys behind."""
    slot = start + tl.arange(0, BLOCK)
    where = slot[:, None] * by_token + tl.arange(0, D)[None, :]
    k = tl.load(keys + where, mask=(slot < length)[:, None], other=0.0)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    return tl.where(slot[None, :] <= at[:, None], scores, float("-inf"))


@triton.jit(do_not_specialize=["batch", "heads", "most"])
def attended(keys, queries, lengths, out, batch, heads, most,
             k_example, k_head, k_token, q_example, q_head, q_token,
             GROUP: tl.constexpr, W: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
             TYPE: tl.constexpr):  # fmt: skip
    """A program a query head of a row of a layer: `out` float32 [L, B, Hq, most] gets the mean of
    what its last W tokens attend to. `lengths` (int64 [B]) are the rows' tokens; a row that has
    fewer than W is asked for those that it has."""
    head = tl.program_id(0) % heads
    row = tl.program_id(0) // heads  # of a layer's batch
    layer, example = row // batch, (row % batch).to(tl.int64)
    length = tl.load(lengths + example).to(tl.int32)
    key = tl.load(keys + layer).to(tl.pointer_type(TYPE))
    key += example * k_example + (head // GROUP).to(tl.int64) * k_head
    query = tl.load(queries + layer).to(tl.pointer_type(TYPE))
    query += example * q_example + head.to(tl.int64) * q_head
    last = length - W + tl.arange(0, W)
    at = tl.maximum(last, 0)  # a stand-in looks at the first token: it counts for nothing
    q = tl.load(query + at[:, None] * q_token + tl.arange(0, D)[None, :])
    highest = tl.full([W], float("-inf"), tl.float32)
    total = tl.zeros([W], tl.float32)
    for start in range(0, length, BLOCK):
        scores = _scores(q, at, key, start, length, k_token, D, BLOCK)
        higher = tl.maximum(highest, tl.max(scores, 1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(scores - higher[:, None]), 1)
        highest = higher
    asked = (last >= 0).to(tl.float32)
    share = asked / total / tl.sum(asked, 0)
    into = out + tl.program_id(0).to(tl.int64) * most
    for start in range(0, most, BLOCK):
        scores = _scores(q, at, key, start, length, k_token, D, BLOCK)
        mean = tl.sum(tl.exp(scores - highest[:, None]) * share[:, None], 0)
        slot = start + tl.arange(0, BLOCK)
        tl.store(into + slot, mean, mask=slot < most)
