"""`noise`: Gaussian noise with the own cache's moments: numbers of its size that say nothing more.

By layer, head and channel it has the mean and standard deviation of the own message over the
tokens that can be sent; keys are taken and given without their rotary embedding, where the sharer
has one that can be taken off, so that no position stands in the moments. A prompt has the same
noise in every run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentwire.controls.control import Control, Known

if TYPE_CHECKING:
    from torch import Tensor

    from c2c.cache import KVCache


def _noise(cache: "KVCache", tokens: Sequence[int], known: Known) -> "KVCache":
    import numpy as np
    import torch

    from c2c.cache import KVCache
    from c2c.rope import redo, undo

    generators = [np.random.default_rng(seed) for seed in known.seeds]

    def like(tensor: "Tensor", frequencies: "Tensor | None") -> "Tensor":
        made = torch.zeros_like(tensor)
        rows = zip(tokens, known.sent, generators, strict=True)
        for row, (n, sent, generator) in enumerate(rows):
            if not sent:
                continue
            own, at = tensor[row, :, :n].double(), torch.arange(n)
            if frequencies is not None:
                own = undo(own, at, frequencies)
            drawn = torch.from_numpy(generator.standard_normal(own.shape)).to(own)
            message = own[:, list(sent)]
            mean = message.mean(1, keepdim=True)
            found = mean + message.std(1, correction=0, keepdim=True) * drawn
            made[row, :, :n] = found if frequencies is None else redo(found, at, frequencies)
        return made

    keys = tuple(like(tensor, known.frequencies) for tensor in cache.keys)
    values = tuple(like(tensor, None) for tensor in cache.values)
    return KVCache(keys, values, tuple(tensor.new_zeros(tensor.shape) for tensor in cache.queries))


CONTROL = Control("noise with its moments", message=_noise)
