"""C2C's fuser: merges what arrived into the receiver's cache, token by token and layer by layer.

It is the published protocol, so its code is in `c2c.fuser` and `c2c.checkpoint`.
"""

from c2c.checkpoint import PROJECTORS, load_fuser, require_fit
from latentwire.interfaces.plug import Plug, Weights

PLUG = Plug(inserts=False, weights=Weights(tuple(PROJECTORS), load_fuser, require_fit))
