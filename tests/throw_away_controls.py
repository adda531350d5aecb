"""Controls that are not shipped: they show what the seam carries."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from c2c.cache import KVCache
from latentwire.controls.control import Control, Known
from latentwire.controls.registry import CONTROLS


def turned(cache: KVCache, tokens: Sequence[int], known: Known) -> KVCache:
    """Each row's tokens in reversed order."""
    places = [[*reversed(range(n)), *range(n, cache.tokens)] for n in tokens]
    return cache.map(
        lambda tensor: torch.stack([row[:, at] for row, at in zip(tensor, places, strict=True)])
    )


MADE = {
    "reversed": Control("its own, last token first", message=turned),
    "lent_reversed": Control("another question's, last token first", lent=True, message=turned),
    "lent_too": Control("another question's, once more", lent=True),
}


@contextmanager
def registered() -> Iterator[None]:
    """Within, they are controls as all others; not of the budget curve, whose columns are made when
    it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name, control in MADE.items():
            patch.setitem(CONTROLS, name, control)
        yield
