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
    from latentwire.channel.selectors.attention import Look

SINKS = 4  # as kvpress has it


class ExpectedAttention(ByScore):
    needs_queries = True
    scored = "what should be attended to"

    def scores(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        import torch

        from latentwire.channel.selectors.attention import looks

        return torch.stack(
            [
                _score(look, value)
                for look, value in zip(looks(cache, tokens), cache.values, strict=True)
            ]
        )

    def always(self, tokens: int, count: int) -> range:
        return range(min(SINKS, count))


def _score(look: "Look", value: "Tensor") -> "Tensor":
    """Of one layer, [B, T]; `value` is [B, H, T, D]."""
    mean = look.mean(look.logits)
    variance = look.mean((look.logits - mean.unsqueeze(2)).square())
    real = look.real[:, :, 0].clone()
    real[..., :SINKS] = False
    expected = (mean + variance / 2).masked_fill(~real, float("-inf")).softmax(-1).nan_to_num()
    of_heads = expected.unflatten(1, (value.shape[1], -1)).mean(2)
    return (of_heads * value.float().norm(dim=-1)).mean(1)


SELECTOR = ExpectedAttention()
