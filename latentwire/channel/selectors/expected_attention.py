"""`expected_attention`: the tokens to which those to come should attend, times what they then give.

Expected attention (arXiv:2510.00636, kvpress's `ExpectedAttentionPress`): queries to come are taken
for Gaussian, of mean m and covariance C, so that a key k is expected to be attended to by
exp(m k + k C k / 2), over the sum for all keys; a token's score is that times its value's norm. The
first 4 tokens, which draw attention whatever they say, always go and take no part in the sum.

m k and k C k are mean and variance of the logits of the sharer's last tokens, as they stand.
kvpress takes m and C from all tokens, turned to the positions to come, and scores head by head;
here heads are averaged, for a packet carries whole tokens.
"""

from typing import TYPE_CHECKING

from latentwire.channel.selectors.ranked import ByScore

if TYPE_CHECKING:
    from torch import Tensor

    from c2c.cache import KVCache

SINKS = 4  # as kvpress has it


class ExpectedAttention(ByScore):
    needs_queries = True
    scored = "what should be attended to"

    def scores(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        import torch

        from latentwire.channel.selectors.attention import moments

        place = torch.arange(cache.tokens, device=tokens.device)
        real = (place >= SINKS) & (place < tokens[:, None])  # [B, T]
        mean, variance = moments(cache, tokens)  # [L, B, Hq, T]
        logits = (mean + variance / 2).masked_fill(~real[:, None], float("-inf"))
        expected = logits.softmax(-1).nan_to_num()
        norms = torch.stack([value.float().norm(dim=-1) for value in cache.values])
        return (expected.unflatten(2, (norms.shape[2], -1)).mean(3) * norms).mean(2)

    def always(self, tokens: int, count: int) -> range:
        return range(min(SINKS, count))


SELECTOR = ExpectedAttention()
