"""Right or wrong, and which letters were answered."""

from collections import Counter
from collections.abc import Iterable

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record

NO_LETTER = "none"
"""Stands in tables for an output that yields no letter."""

_ROWS = ("A", "B", "C", "D", NO_LETTER)


def is_correct(predicted: str | None, key: str) -> bool:
    """Whether an answer is right; an output without a letter is wrong, not left out."""
    return predicted is not None and predicted == key


def letter_shares(records: Iterable[Record]) -> dict[str, float]:
    """The proportion of outputs that yield A, B, C, D and none, in this order; they sum to 1.

    A model that has nothing to go on leans on one letter, which its accuracy alone does not show.

    Raises `LatentWireError` when there are no records.
    """
    counts = Counter(record.predicted or NO_LETTER for record in records)
    total = counts.total()
    if not total:
        raise LatentWireError("there are no records to take the shares of letters from")
    return {letter: counts[letter] / total for letter in _ROWS}
