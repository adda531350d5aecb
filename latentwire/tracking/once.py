"""Pieces of work that several processes may want at the same time, each made by one of them."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from latentwire.tracking.claims import Claims

POLL_S = 1.0  # between looks at what other processes have in hand

log = logging.getLogger("latentwire")

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_once(
    claims: Claims,
    items: Sequence[Item],
    key: Callable[[Item], str],
    find: Callable[[Item], Result | None],
    make: Callable[[Item], Result],
    to_the_runs_end: bool = False,
) -> Iterator[tuple[Item, Result]]:
    """Every item with its result, as they come: found in the store, or made here.

    An item is made under a claim called `key`. What another live process has claimed is waited for;
    what a dead one had claimed is made here. `find` looks into the store, and must see a result
    before the claim of the process that made it ends: after the item, or, with `to_the_runs_end`,
    with the run, for what is finished only when the run is.
    """
    left = list(items)
    told = False
    while left:
        item = claims.take_any(left, key)
        if item is None:
            if not told:
                log.info("other processes have the last %d pieces in hand", len(left))
                told = True
            # Two that both gave way must not meet again.
            time.sleep(POLL_S * random.uniform(0.5, 1))
            continue
        left.remove(item)
        result = find(item)
        if result is None:
            result = make(item)
        if not to_the_runs_end:
            claims.release([key(item)])
        yield item, result
