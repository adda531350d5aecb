"""The interfaces by name. A new one is its own file and one line here."""

from importlib import import_module
from pathlib import Path

import torch

from c2c.cache import Geometry
from c2c.checkpoint import checkpoint_class
from c2c.interface import Interface
from latentwire.errors import LatentWireError
from latentwire.interfaces.plug import Plug

# An interface's file is called as it is.
_FILES = ("c2c",)
INTERFACES: dict[str, Plug] = {
    name: import_module(f"latentwire.interfaces.{name}").PLUG for name in _FILES
}


def load_interface(
    folder: Path,
    sharer: Geometry,
    receiver: Geometry,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Interface:
    """The interface whose weights are in `folder`, frozen, in eval mode.

    Raises LatentWireError for a class that no interface has, C2CError for files that are damaged or
    do not fit the pair.
    """
    return _plug(folder).load(folder, sharer, receiver, dtype, device)


def require_fit(folder: Path, sharer: Geometry, receiver: Geometry) -> int:
    """See without its tensors whether what is in `folder` fits the pair; how many projectors it
    has. Raises as `load_interface` does, for all that the descriptions tell."""
    return _plug(folder).require_fit(folder, sharer, receiver)


def _plug(folder: Path) -> Plug:
    """The interface that the descriptions in `folder` name the class of."""
    found = checkpoint_class(folder)
    for plug in INTERFACES.values():
        if found in plug.checkpoint_classes:
            return plug
    known = ", ".join(name for plug in INTERFACES.values() for name in plug.checkpoint_classes)
    raise LatentWireError(
        f"{folder}: its weights are of class {found!r}, but no interface here has that class"
        f" (known: {known}); take a checkpoint of a known one"
    )
