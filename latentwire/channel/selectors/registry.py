"""The selectors by name. A new one is its own file and one line here.

A name is what users write as `order` and what stands in fingerprints: it is never given to
another rule. Behind the name of one that neither ranks nor chooses by layer may stand layers
(`back@22`, see `of_layers`).
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from latentwire.channel.positions import Positions, fault_of_any
from latentwire.channel.selectors.of_layers import AT, of_layers
from latentwire.channel.selectors.ranked import Ranked
from latentwire.channel.selectors.selector import Budget, Selector
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

if TYPE_CHECKING:  # it brings torch: a list of names should not take seconds
    from c2c.cache import KVCache

# A selector's file is called as it is.
_FILES = (
    "front",
    "back",
    "middle",
    "sinks_recent",
    "random",
    "vnorm",
    "vnorm_by_layer",
    "knorm",
    "knorm_by_layer",
    "snapkv",
    "snapkv_by_layer",
    "expected_attention",
    "expected_attention_by_layer",
    "kvcomm",
)
SELECTORS: dict[str, Selector] = {
    name: import_module(f"latentwire.channel.selectors.{name}").SELECTOR for name in _FILES
}
OF_LAYERS = [
    name for name, each in SELECTORS.items() if not (isinstance(each, Ranked) or each.by_layer)
]


def selector(name: str) -> Selector | None:
    """The selector of that name, layers included; None where there is none. Raises ValueError for
    layers that it cannot have, which says why."""
    tokens, at, layers = name.partition(AT)
    if not at:
        return SELECTORS.get(name)
    if tokens not in OF_LAYERS:
        raise ValueError(f"layers stand behind one of {', '.join(OF_LAYERS)}, not {tokens!r}")
    return of_layers(SELECTORS[tokens], layers)


def needs_queries(channel: Channel) -> bool:
    """Whether what goes through a channel is chosen by the queries of the sharer's tokens."""
    found = selector(channel.order)
    return found is not None and found.needs_queries


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
    return select_each(channel, [sharer_cache], [prompt], [most_tokens])[0]


def select_each(
    channel: Channel,
    sharer_caches: Sequence["KVCache"],
    prompts: Sequence[Sequence[int]],
    most_tokens: Sequence[int | None],
) -> list[Positions]:
    """`select` of several questions, with its errors, for the first that has one."""
    found = selector(channel.order)
    if found is None:
        known = ", ".join(SELECTORS)
        raise LatentWireError(f"order must be one of {known}, not {channel.order!r}")
    budgets = [Budget(channel.keep_ratio, most) for most in most_tokens]
    lengths = list(map(len, prompts))
    if isinstance(found, Ranked):
        chosen = found.select_each(sharer_caches, prompts, budgets)
    elif found.of_length:
        told = zip(lengths, budgets, strict=True)
        chosen = [_of_length(found, *each) for each in told]  # type: ignore[arg-type]
    else:
        chosen = list(map(found.select, sharer_caches, prompts, budgets))
    if chosen and (fault := fault_of_any(chosen, lengths, sharer_caches[0].layers)):
        raise LatentWireError(f"the selector {channel.order} chose {fault}")
    return chosen


@lru_cache(1 << 14)  # questions of one length are many
def _of_length(found: Selector, prompt_tokens: int, budget: Budget) -> Positions:
    from c2c.cache import KVCache

    return found.select(KVCache((), ()), range(prompt_tokens), budget)
