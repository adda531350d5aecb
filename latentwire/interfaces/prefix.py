"""`prefix`: the receiver's cache begins with what arrived, and its own prompt follows.

With one model at both ends there is nothing to train: the cache of a text that one end has read is
what the other would have made itself. Sent whole and unchanged, it gives the answers of that model
reading everything; every token keeps its position, and so does the prompt where only some arrived.
Between two models a trained projector (`c2c.prefix_projector`) makes the receiver's cache of the
sharer's.
"""

from functools import partial

from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.checkpoint import CLASSES, load, require_fit
from c2c.interface import Interface
from c2c.prefix_projector import ProjectedPrefix, new_prefix
from c2c.projector import ProjectorSize
from latentwire.errors import LatentWireError
from latentwire.interfaces.plug import Frequencies, Plug, Weights


class Prefix(Interface):
    """The sharer's cache as it is, in front of the prompt of a receiver of the same shape."""

    inserts = True

    def __init__(self, sharer: Geometry) -> None:
        self.sharer = sharer

    def layers_read(self, kind: str) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.sharer.layers))

    def describe(self) -> str:
        """See `Interface`."""
        return "no weights"

    def prepare(self, received: KVCache, positions: Tensor) -> KVCache:
        """What was received."""
        return received


def _without_weights(sharer: Geometry, receiver: Geometry) -> Prefix:
    if sharer != receiver:
        raise LatentWireError(
            f"interface prefix has no weights in this pair, and the sharer's cache has {sharer},"
            f" the receiver's {receiver}: train it first (`mlflow run . -e train -P pair=...`),"
            " or give one model at both ends, pair=self:MODEL"
        )
    return Prefix(sharer)


def _new(
    sharer: Geometry, receiver: Geometry, size: ProjectorSize, frequencies: Frequencies
) -> ProjectedPrefix:
    return new_prefix(sharer, receiver, size, frequencies())


_WEIGHTS = Weights(
    (CLASSES[ProjectedPrefix][0],),
    partial(load, ProjectedPrefix),
    partial(require_fit, kind=ProjectedPrefix),
    _new,
)
PLUG = Plug(inserts=True, weights=_WEIGHTS, without_weights=_without_weights)
