"""What the last tokens of a prompt look at: logits of attention, worked out from the queries."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel.kernels import on_caches
from latentwire.channel.kernels.programs import readable

WINDOW = 32  # tokens whose queries are asked


class Look(NamedTuple):
    """One layer of a batch. Logits are those of attention; what a sliding window would hide counts.

    A row of fewer tokens than the window has stand-ins in it, which `asked` tells.
    """

    logits: Tensor  # float32 [B, Hq, W, T]
    asked: Tensor  # bool [B, 1, W, 1]: tokens of the row
    before: Tensor  # bool [B, 1, W, T]: keys that a token of the window sees

    def mean(self, values: Tensor) -> Tensor:
        """Over the window's tokens: [B, Hq, W, T] -> [B, Hq, T]."""
        return (values * self.asked).sum(2) / self.asked.sum(2)


def looks(cache: KVCache, tokens: Tensor) -> Iterator[Look]:
    """Each layer's, of the last tokens of each row of [B, H, T, D], which has tokens[b] of them."""
    device, longest = tokens.device, cache.tokens
    at = tokens[:, None] - WINDOW + torch.arange(WINDOW, device=device)  # [B, W]
    place = torch.arange(longest, device=device)
    asked = (at >= 0)[:, None, :, None]
    before = (place <= at[..., None])[:, None]
    for key, query in zip(cache.keys, cache.queries, strict=True):
        heads, width = query.shape[1], query.shape[3]
        index = at.clamp_min(0)[:, None, :, None].expand(-1, heads, -1, width)
        window = query.gather(2, index).float()
        grouped = window.unflatten(1, (key.shape[1], -1)).flatten(2, 3)  # of one KV head
        logits = grouped @ key.float().transpose(2, 3)
        yield Look(logits.view(len(key), heads, WINDOW, longest), asked, before)


def weights(look: Look) -> Tensor:
    """What each token of the window attends to, float32 [B, Hq, W, T]; nothing of stand-ins."""
    seen = look.logits.masked_fill(~(look.before & look.asked), -torch.inf)
    return seen.softmax(-1).nan_to_num()


def attended(cache: KVCache, tokens: Tensor) -> Tensor:
    """What each row's window attends to, in the mean over its tokens and all heads: float32
    [L, B, T]; arguments as for `looks`."""
    if _by_kernel(cache):
        return on_caches.attended(cache.keys, cache.queries, tokens, WINDOW).mean(2)
    return torch.stack([look.mean(weights(look)).mean(1) for look in looks(cache, tokens)])


def moments(cache: KVCache, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each token's logits over the window, float32 [L, B, Hq, T]."""
    if _by_kernel(cache):
        return on_caches.moments(cache.keys, cache.queries, tokens, WINDOW)
    means, variances = [], []
    for look in looks(cache, tokens):
        means.append(look.mean(look.logits))
        variances.append(look.mean((look.logits - means[-1].unsqueeze(2)).square()))
    return torch.stack(means), torch.stack(variances)


def _by_kernel(cache: KVCache) -> bool:
    both = cache.keys[0], cache.queries[0]
    return all(map(readable, both)) and both[0].dtype == both[1].dtype
