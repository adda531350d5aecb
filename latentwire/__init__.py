"""LatentWire: what it costs to send a language model's KV cache over a wire.

The names of `__all__` are the public ones (docs/your_own.md); all else may change. To import this
package takes no time: what a call needs is imported by the call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentwire.api import MilestoneResult, compare, curve, nearest, records, run
    from latentwire.errors import LatentWireError

__version__ = "0.1.0"
__all__ = [
    "LatentWireError",
    "MilestoneResult",
    "__version__",
    "compare",
    "curve",
    "nearest",
    "records",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'latentwire' has no attribute {name!r}")
    module = "latentwire.errors" if name == "LatentWireError" else "latentwire.api"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
