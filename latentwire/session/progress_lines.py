"""How far a computation is: a bar on a terminal, a line now and then where output is a file."""

import time
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tqdm import tqdm

from latentwire.terminal import EVERY_S, shows_bars, tell


class ShownProgress(Protocol):
    """What a bar and lines have in common."""

    def update(self, n: int = 1) -> Any: ...


class ProgressLines:
    """Lines such as `m2: 1400 of 4360 answers, 32 %`, one each EVERY_S at most; nothing at the end,
    which the caller tells of."""

    def __init__(self, total: int, name: str, unit: str) -> None:
        self._total, self._name, self._unit = total, name, unit
        self._done, self._told_s = 0, time.monotonic()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self._done += n
        now_s = time.monotonic()
        if now_s - self._told_s < EVERY_S or self._done >= self._total:
            return
        self._told_s = now_s
        share = 100 * self._done // self._total
        tell(f"{self._name}: {self._done} of {self._total} {self._unit}s, {share} %")


def shown_progress(total: int, name: str, unit: str) -> AbstractContextManager[ShownProgress]:
    """Progress of `total` units under a milestone's name."""
    if shows_bars():
        return tqdm(total=total, desc=name, unit=unit)
    return ProgressLines(total, name, unit)
