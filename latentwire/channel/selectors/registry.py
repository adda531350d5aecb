"""The selectors by name. A new one is its own file and one line here.

A name is what users write as `order` and what stands in fingerprints: it is never given to
another rule.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

if TYPE_CHECKING:  # it brings torch: a list of names should not take seconds
    from c2c.cache import KVCache

# A selector's file is called as it is.
_FILES = (
    "front",
    "back",
)
SELECTORS: dict[str, Selector] = {
    name: import_module(f"latentwire.channel.selectors.{name}").SELECTOR for name in _FILES
}


def require_selector(name: str) -> None:
    """LatentWireError for a selector that there is not."""
    if name not in SELECTORS:
        raise LatentWireError(f"order must be one of {', '.join(SELECTORS)}, not {name!r}")


def select(
    channel: Channel,
    sharer_cache: "KVCache",
    prompt: Sequence[int],
    most_tokens: int | None = None,
) -> Positions:
    """Which tokens go through a channel, at most so many: a sender's choice, of each question.

    Other arguments as for `Selector.select`. Raises LatentWireError for an unknown selector, and
    for positions that the prompt does not have.
    """
    require_selector(channel.order)
    budget = Budget(channel.keep_ratio, most_tokens)
    chosen = SELECTORS[channel.order].select(sharer_cache, prompt, budget)
    if fault := chosen.fault(len(prompt), sharer_cache.layers):
        raise LatentWireError(f"the selector {channel.order} chose {fault}")
    return chosen
