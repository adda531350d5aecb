"""How wide a picture may be: a page, or one of the two columns of a paper's page."""

import textwrap
from enum import StrEnum
from typing import TypeVar

COLUMN_INCHES = 3.35
T = TypeVar("T")


class Width(StrEnum):
    """A width by its name. Text has the same size in both, so a column has fewer characters a
    line, fewer ticks an axis, and panels below each other."""

    PAGE = "page"
    COLUMN = "column"

    def choose(self, page: T, column: T) -> T:
        """What is so on a page and else in a column."""
        return page if self is Width.PAGE else column

    def inches(self, page: float) -> float:
        """A picture's width, where `page` inches are its width on a page."""
        return self.choose(page, COLUMN_INCHES)

    def wrapped(self, text: str, characters: int) -> str:
        """A title as it stands on a page; in a column, in lines of at most so many characters."""
        lines = [part for line in text.split("\n") for part in textwrap.wrap(line, characters)]
        return self.choose(text, "\n".join(lines))
