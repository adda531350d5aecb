"""C2C's fuser: merges what arrived into the receiver's cache, token by token and layer by layer.

It is the published protocol, so its code is in `c2c.fuser` and `c2c.checkpoint`.
"""

from c2c.cache import Geometry
from c2c.checkpoint import CLASSES, load_fuser, require_fit
from c2c.fuser import Fuser, new_fuser
from c2c.projector import ProjectorSize
from latentwire.interfaces.plug import Frequencies, Plug, Weights


def _new(
    sharer: Geometry, receiver: Geometry, size: ProjectorSize, frequencies: Frequencies
) -> Fuser:
    return new_fuser(sharer, receiver, size)


PLUG = Plug(inserts=False, weights=Weights((CLASSES[Fuser][0],), load_fuser, require_fit, _new))
