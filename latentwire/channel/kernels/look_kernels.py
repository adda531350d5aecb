"""What the last tokens of each row look at, of all layers in one launch; see
`selectors.attention`, which this equals but for the order of sums."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _place(keys, queries, lengths, batch, heads, k_example, k_head, q_example, q_head, q_token,
           GROUP: tl.constexpr, W: tl.constexpr, D: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Of the program's query head of a row of a layer: the row's length, its keys' address, the
    queries [W, D] of its last tokens, where these stand, and which of them there are. A stand-in
    for a token that is not there looks at the first one, and counts for nothing."""
    head = tl.program_id(0) % heads
    row = tl.program_id(0) // heads  # of a layer's batch
    layer, example = row // batch, (row % batch).to(tl.int64)
    length = tl.load(lengths + example).to(tl.int32)
    key = tl.load(keys + layer).to(tl.pointer_type(TYPE))
    key += example * k_example + (head // GROUP).to(tl.int64) * k_head
    query = tl.load(queries + layer).to(tl.pointer_type(TYPE))
    query += example * q_example + head.to(tl.int64) * q_head
    last = length - W + tl.arange(0, W)
    at = tl.maximum(last, 0)
    q = tl.load(query + at[:, None] * q_token + tl.arange(0, D)[None, :])
    return length, key, q, at, (last >= 0).to(tl.float32)


@triton.jit
def _logits(q, keys, start, length, by_token, D: tl.constexpr, BLOCK: tl.constexpr):
    """Of queries [W, D] and BLOCK keys from `start`, [W, BLOCK]."""
    slot = start + tl.arange(0, BLOCK)
    where = slot[:, None] * by_token + tl.arange(0, D)[None, :]
    k = tl.load(keys + where, mask=(slot < length)[:, None], other=0.0)
    return tl.dot(q, tl.trans(k), input_precision="ieee")


@triton.jit
def _seen(q, at, keys, start, length, by_token, D: tl.constexpr, BLOCK: tl.constexpr):
    """The same; minus infinity for keys behind a query's token."""
    logits = _logits(q, keys, start, length, by_token, D, BLOCK)
    slot = start + tl.arange(0, BLOCK)
    return tl.where(slot[None, :] <= at[:, None], logits, float("-inf"))


@triton.jit(do_not_specialize=["batch", "heads", "most"])
def attended(keys, queries, lengths, out, batch, heads, most,
             k_example, k_head, k_token, q_example, q_head, q_token,
             GROUP: tl.constexpr, W: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
             TYPE: tl.constexpr):  # fmt: skip
    """A program a query head of a row of a layer: `out` float32 [L, B, Hq, most] gets the mean of
    what its last W tokens attend to. `lengths` (int64 [B]) are the rows' tokens."""
    length, key, q, at, asked = _place(
        keys, queries, lengths, batch, heads, k_example, k_head, q_example, q_head, q_token,
        GROUP, W, D, TYPE,
    )  # fmt: skip
    highest = tl.full([W], float("-inf"), tl.float32)
    total = tl.zeros([W], tl.float32)
    for start in range(0, length, BLOCK):
        logits = _seen(q, at, key, start, length, k_token, D, BLOCK)
        higher = tl.maximum(highest, tl.max(logits, 1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        highest = higher
    share = asked / total / tl.sum(asked, 0)
    into = out + tl.program_id(0).to(tl.int64) * most
    for start in range(0, most, BLOCK):
        logits = _seen(q, at, key, start, length, k_token, D, BLOCK)
        mean = tl.sum(tl.exp(logits - highest[:, None]) * share[:, None], 0)
        slot = start + tl.arange(0, BLOCK)
        tl.store(into + slot, mean, mask=slot < most)


@triton.jit(do_not_specialize=["batch", "heads", "most"])
def moments(keys, queries, lengths, means, variances, batch, heads, most,
            k_example, k_head, k_token, q_example, q_head, q_token,
            GROUP: tl.constexpr, W: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
            TYPE: tl.constexpr):  # fmt: skip
    """Likewise mean and variance of the logits of every token's key under these queries; behind a
    row's end those of a key of zeros."""
    length, key, q, _, asked = _place(
        keys, queries, lengths, batch, heads, k_example, k_head, q_example, q_head, q_token,
        GROUP, W, D, TYPE,
    )  # fmt: skip
    share = asked / tl.sum(asked, 0)
    into = tl.program_id(0).to(tl.int64) * most
    for start in range(0, most, BLOCK):
        logits = _logits(q, key, start, length, k_token, D, BLOCK)
        mean = tl.sum(logits * share[:, None], 0)
        apart = logits - mean[None, :]
        slot = start + tl.arange(0, BLOCK)
        tl.store(means + into + slot, mean, mask=slot < most)
        variance = tl.sum(apart * apart * share[:, None], 0)
        tl.store(variances + into + slot, variance, mask=slot < most)
