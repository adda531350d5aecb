"""`back@22`, `front@0-3+22`: another selector's tokens, of some of the sharer's layers alone.

KVComm (arXiv:2510.03346) sends whole layers that it found on questions of the task. Here the layers
are named: what bits of each tensor are worth to the answer is measured by `m6`, on training
questions, and stands in its artifact `schedules.json`. A token that a layer does not send stays the
receiver's own there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from c2c.sections import runs_of
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector
from latentwire.errors import LatentWireError

if TYPE_CHECKING:  # it brings torch: a list of names should not take seconds
    from c2c.cache import KVCache

AT = "@"
_NUMBER = r"(?:0|[1-9]\d{0,3})"
_LAYERS = re.compile(rf"{_NUMBER}(?:-{_NUMBER})?(?:\+{_NUMBER}(?:-{_NUMBER})?)*")


@dataclass(frozen=True)
class OfLayers(Selector):
    """What `tokens` selects, of `layers` alone (counted from 0). Raises LatentWireError where the
    sharer has no such layer."""

    tokens: Selector
    layers: frozenset[int]
    by_layer = True

    @property
    def help(self) -> str:
        return f"{self.tokens.help}, of some layers alone"

    def select(self, sharer_cache: "KVCache", prompt: Sequence[int], budget: Budget) -> Positions:
        count = sharer_cache.layers
        if max(self.layers) >= count:
            raise LatentWireError(
                f"order names layer {max(self.layers)}, and the sharer's are 0 to {count - 1}"
            )
        found = self.tokens.select(sharer_cache, prompt, budget)
        sent = [found.tokens(0) if layer in self.layers else () for layer in range(count)]
        return Positions.of_layers(sent, range(len(prompt) - 1))


def of_layers(tokens: Selector, layers: str) -> OfLayers:
    """The selector that `TOKENS@LAYERS` spells; `layers` as `spelled` writes them. Raises
    ValueError, which says what is wrong."""
    return OfLayers(tokens, _named(layers))


def spelled(layers: Iterable[int]) -> str:
    """Layers in the one way that an order writes them: 22, 20-24 or 3+20-24."""
    runs = runs_of(sorted(set(layers)))
    return "+".join(str(run.start) if len(run) == 1 else f"{run.start}-{run[-1]}" for run in runs)


@cache
def _named(layers: str) -> frozenset[int]:
    if not _LAYERS.fullmatch(layers):
        raise ValueError(f"{layers!r} is no list of layers: write 22, 20-24 or 3+20-24")
    found: list[int] = []
    for part in layers.split("+"):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    if layers != (once := spelled(found)):  # two names would be computed twice
        ascending = f": write {once}" if once else ", for a range ends before it starts"
        raise ValueError(f"{layers!r} does not name layers in the one way that there is{ascending}")
    return frozenset(found)
