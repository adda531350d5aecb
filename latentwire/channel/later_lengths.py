"""Lengths that a device is still counting: who does not look at them does not wait for it."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import overload


class LaterLengths(Sequence[int]):
    """The lengths of `rows` payloads, bytes; `count` gives them, and waits for the device, when
    the first of them is looked at."""

    def __init__(self, rows: int, count: Callable[[], list[int]]) -> None:
        self._rows = rows
        self._count = count

    @cached_property
    def _lengths(self) -> list[int]:
        return self._count()

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> list[int]: ...

    def __getitem__(self, place: int | slice) -> int | list[int]:
        return self._lengths[place]
