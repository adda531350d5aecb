"""`zero`: zeros, as many as the own cache has numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentwire.controls.control import Control, Known

if TYPE_CHECKING:
    from c2c.cache import KVCache


def _zeros(cache: "KVCache", tokens: Sequence[int], known: Known) -> "KVCache":
    return cache.map(lambda tensor: tensor.new_zeros(tensor.shape))


CONTROL = Control("zeros", message=_zeros)
