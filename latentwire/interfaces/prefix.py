"""`prefix`: the receiver's cache begins with what arrived, and its own prompt follows.

With one model at both ends there is nothing to train: the cache of a text that one end has read is
what the other would have made itself. Sent whole and unchanged, it gives the answers of that model
reading everything; every token keeps its position, and so does the prompt where only some arrived.
"""

from c2c.cache import Geometry, KVCache
from c2c.interface import Interface
from latentwire.errors import LatentWireError
from latentwire.interfaces.plug import Plug


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

    def prepare(self, received: KVCache) -> KVCache:
        """What was received."""
        return received


def _without_weights(sharer: Geometry, receiver: Geometry) -> Prefix:
    if sharer != receiver:
        raise LatentWireError(
            f"interface prefix needs one model at both ends: the sharer's cache is of {sharer}, the"
            f" receiver's of {receiver}; give pair=self:MODEL, or another interface"
        )
    return Prefix(sharer)


PLUG = Plug(inserts=True, without_weights=_without_weights)
