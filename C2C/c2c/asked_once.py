"""What was found of a module by running it on a few numbers, so that it is asked once.

To ask waits for the device, and models have dozens of modules of a kind.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from torch import nn

Asked = Callable[[nn.Module], bool]
_known: WeakKeyDictionary[nn.Module, dict[Asked, bool]] = WeakKeyDictionary()


def asked_once(module: nn.Module, asked: Asked) -> bool:
    """What `asked` says of a module; its formula does not change."""
    found = _known.setdefault(module, {})
    if asked not in found:
        found[asked] = asked(module)
    return found[asked]
