"""What each row of a batch sends, with all that has been worked out of it."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar, overload

from latentwire.channel.positions import Positions

_T = TypeVar("_T")


class SentRows(Sequence[Positions]):
    """The positions of each row. Conditions that differ by codec, or by whose cache is sent, have
    the same rows in common: what is worked out for one of them (`once`) serves all."""

    def __init__(self, rows: Iterable[Positions]) -> None:
        self.rows = tuple(rows)
        self._known: dict[Hashable, Any] = {}

    @classmethod
    def of(cls, rows: Sequence[Positions]) -> "SentRows":
        return rows if isinstance(rows, cls) else cls(rows)

    def once(self, what: Hashable, work_out: Callable[[], _T]) -> _T:
        """What `work_out` gives, which it is asked for the first time alone."""
        if what not in self._known:
            self._known[what] = work_out()
        found: _T = self._known[what]
        return found

    @cached_property
    def differ(self) -> bool:
        """Whether layers send different tokens of any row."""
        return any(each.by_layer for each in self.rows)

    @cached_property
    def later(self) -> bool:
        """Whether any row has a section behind its first one."""
        return any(len(each.sections) > 1 for each in self.rows)

    @cached_property
    def alike(self) -> bool:
        """Whether every row sends the same."""
        return all(each == self.rows[0] for each in self.rows[1:])

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, row: int) -> Positions: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Positions, ...]: ...
    def __getitem__(self, row: int | slice) -> Positions | tuple[Positions, ...]:
        return self.rows[row]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.rows == tuple(other)

    def __hash__(self) -> int:
        return hash(self.rows)
