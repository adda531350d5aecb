"""`mean`: the mean cache of training questions, no content at all: what an interface gives by
itself. Both ends have it beforehand, in the pair's calibration.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentwire.controls.control import Control, Known

if TYPE_CHECKING:
    from c2c.cache import KVCache


def _mean(cache: "KVCache", tokens: Sequence[int], known: Known) -> "KVCache":
    """By layer, head and channel, over all tokens of the calibration; keys without their rotary
    embedding, which each position then gets."""
    import torch

    from c2c.cache import KVCache
    from c2c.rope import redo

    assert known.means is not None and known.frequencies is not None
    rows, n = len(tokens), cache.tokens
    keys, values = (mean.double()[:, :, None].expand(-1, -1, n, -1) for mean in known.means)
    keys = redo(keys, torch.arange(n), known.frequencies)  # [L, H, T, D]

    def of_each(layers: torch.Tensor, like: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(x.to(own).repeat(rows, 1, 1, 1) for x, own in zip(layers, like, strict=True))

    unasked = tuple(tensor.new_zeros(tensor.shape) for tensor in cache.queries)
    return KVCache(of_each(keys, cache.keys), of_each(values, cache.values), unasked)


CONTROL = Control("the mean of training questions", message=_mean, calibrated=True)
