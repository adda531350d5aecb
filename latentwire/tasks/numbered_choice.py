"""Multiple choice whose rows number the right choice from 0, and have no ids."""

from abc import abstractmethod
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import RowFields
from latentwire.tasks.task import Example


@dataclass(frozen=True)
class NumberedChoice(MultipleChoice):
    """Shown and answered as all multiple choice; a task reads its rows."""

    def row_id(self, row: dict[str, Any], index: int) -> str:
        """Its place in the split."""
        return f"{self.name}:{index}"

    @abstractmethod
    def read(self, fields: RowFields) -> tuple[str, list[str], int]:
        """Question, choices and the number of the right one. Raises ValueError as `example`."""

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """See `Task`."""
        question, choices, number = self.read(RowFields(row))
        letters = ascii_uppercase[: len(choices)]
        if not 0 <= number < len(letters):
            raise ValueError(f"choice {number} is the key, but there are {len(choices)}, from 0 on")
        key = letters[number]
        if key not in self.letters:
            raise ValueError(f"choice {number} is the key, and only {self.letters} are read")
        return Example(self.row_id(row, index), index, question, tuple(choices), key)
