"""Python's search for garbage, where it would only get in the way."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def gc_paused() -> Iterator[None]:
    """Garbage is not looked for meanwhile: where much is made that is kept, all of it is walked
    again and again. That tripled the time of a search, in which a run is 40 objects
    (docs/findings.md), and took a sixth of that of a start, which imports 3,000 modules."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """`gc_paused` for what a start imports; a process's first such block is never walked again."""
    with gc_paused():
        yield
    _keep_for_good()


@cache  # asked whether it keeps anything, Python counts a million things one by one
def _keep_for_good() -> None:
    gc.freeze()


@cache
def keep_loaded() -> None:
    """What a process has loaded when it first evaluates, models and question sets among it, is
    never walked again: a walk over all of it takes as long as a tenth of a batch on a GPU, which
    waits for it."""
    gc.freeze()


def collect_young() -> None:
    """What has become garbage of late goes; what has been there longer is not walked."""
    gc.collect(1)
