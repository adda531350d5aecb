"""Modules whose forward pass is another for a while, found by what they compute.

What a module computes is seen by running it on a few numbers. To ask waits for the device, and
models have dozens of modules of a kind, so each is asked once.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

Asked = Callable[[nn.Module], bool]
_known: WeakKeyDictionary[nn.Module, dict[Asked, bool]] = WeakKeyDictionary()


@contextmanager
def exchanged(
    models: Iterable[nn.Module],
    asked: Asked,
    forward_of: Callable[[Any], Callable[[Tensor], Tensor]],
) -> Iterator[int]:
    """Within, the models' modules of which `asked` is true compute what `forward_of` them does;
    their number."""
    every = [module for model in models for module in model.modules()]
    usual = [module for module in every if "forward" not in module.__dict__]
    changed = [module for module in usual if asked_once(module, asked)]
    for module in changed:
        # An attribute of the instance hides the class's method, and can be taken away again.
        module.__dict__["forward"] = forward_of(module)
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.__dict__["forward"]


def asked_once(module: nn.Module, asked: Asked) -> bool:
    """What `asked` says of a module; its formula does not change."""
    found = _known.setdefault(module, {})
    if asked not in found:
        found[asked] = asked(module)
    return found[asked]
