"""The interfaces by name. A new one is its own file and one line here."""

from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from c2c.cache import Geometry
from c2c.checkpoint import checkpoint_class
from c2c.fuser import Projectors
from c2c.interface import Interface
from c2c.projector import ProjectorSize
from latentwire.errors import LatentWireError, quoted
from latentwire.interfaces.plug import Frequencies, Plug, Weights
from latentwire.pairs.pair import UNTRAINED_SEED

# An interface's file is called as it is.
_FILES = ("c2c", "prefix")
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
    return _weights(folder).load(folder, sharer, receiver, dtype, device)


def load_untrained(
    folder: Path,
    sharer: Geometry,
    receiver: Geometry,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Interface:
    """The same with fresh weights, drawn by UNTRAINED_SEED: what an interface of this size gives by
    itself. Its gates stay as they are, so that as much is sent. Raises as `load_interface` does."""
    fresh, found = (load_interface(folder, sharer, receiver, *to) for to in ((), (dtype, device)))
    assert isinstance(fresh, nn.Module) and isinstance(found, nn.Module)
    # In float32 on the CPU: the same draw on every machine.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        for module in fresh.modules():
            if isinstance(module, nn.Linear | nn.RMSNorm):
                module.reset_parameters()
    found.load_state_dict(fresh.state_dict())
    return found


def require_fit(folder: Path, sharer: Geometry, receiver: Geometry) -> int:
    """See without its tensors whether what is in `folder` fits the pair; how many projectors it
    has. Raises as `load_interface` does, for all that the descriptions tell."""
    return _weights(folder).require_fit(folder, sharer, receiver)


def without_weights(name: str, sharer: Geometry, receiver: Geometry) -> Interface:
    """The interface of a pair that has no weights and names it. LatentWireError for one that there
    is not, that needs weights, or that does not serve these models."""
    free = [known for known, plug in INTERFACES.items() if plug.without_weights]
    make = INTERFACES[name].without_weights if name in INTERFACES else None
    if make is None:
        raise LatentWireError(
            f"{quoted(name)} is no interface that a pair can have without a fuser; known:"
            f" {', '.join(free)}"
        )
    return make(sharer, receiver)


def new_weights(
    folder: Path | None,
    name: str | None,
    sharer: Geometry,
    receiver: Geometry,
    size: ProjectorSize,
    frequencies: Frequencies,
) -> Projectors:
    """Untrained weights of the interface that a pair has, by the folder of its weights or by its
    name; of C2C's fuser where it says neither. The rest is as in `Weights.new`.

    LatentWireError for an interface that cannot be trained.
    """
    name = name or "c2c"
    require_weights(name)
    weights = _weights(folder) if folder else INTERFACES[name].weights
    if weights is None or weights.new is None:
        raise LatentWireError("this interface cannot be trained; name another in the pair's file")
    return weights.new(sharer, receiver, size, frequencies)


def require_weights(name: str) -> None:
    """LatentWireError for the name of an interface that there is not, or that never has weights."""
    if name not in INTERFACES or INTERFACES[name].weights is None:
        known = [known for known, plug in INTERFACES.items() if plug.weights]
        raise LatentWireError(
            f"{quoted(name)} is no interface with weights to train; known: {', '.join(known)}"
        )


def inserts(folder: Path | None, name: str | None) -> bool:
    """Whether the interface of a pair puts the message before the receiver's prompt: by the folder
    of its weights, or by its name where it has none. Raises as `load_interface`."""
    found = _plug(folder) if folder else INTERFACES.get(name or "")
    return found is not None and found.inserts


def _weights(folder: Path) -> Weights:
    weights = _plug(folder).weights
    assert weights is not None  # its class was found in them
    return weights


def _plug(folder: Path) -> Plug:
    """The interface that the descriptions in `folder` name the class of."""
    found = checkpoint_class(folder)
    known: list[str] = []
    for plug in INTERFACES.values():
        classes = plug.weights.checkpoint_classes if plug.weights else ()
        if found in classes:
            return plug
        known += classes
    raise LatentWireError(
        f"{folder}: its weights are of class {found!r}, but no interface here has that class"
        f" (known: {', '.join(known)}); take a checkpoint of a known one"
    )
