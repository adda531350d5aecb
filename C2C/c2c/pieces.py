"""Rows of different lengths cut in pieces that go through a model together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

LEAST_BLOCK = 32


class AtOnce(NamedTuple):
    """How much goes through a model together: enough to keep a device busy, so little that what
    lies between two layers takes little memory."""

    tokens: int  # at most, padding included; but one row at least
    padding: int  # tokens of it that cost no more than another pass


class Piece(NamedTuple):
    """Neighbouring rows, start to stop - 1, of which the longest has so many tokens."""

    start: int
    stop: int
    tokens: int


def pieces(tokens: Sequence[int], at_once: AtOnce) -> Iterator[Piece]:
    """Rows of so many tokens in pieces as large as `at_once` allows. Rows without any are left out
    at the ends of pieces."""
    start = stop = longest = real = 0
    for row, count in enumerate(tokens):
        if not count:
            continue
        most, rows = max(longest, count), row + 1 - start
        fits = rows * most <= at_once.tokens
        if longest and not (fits and rows * most - real - count <= at_once.padding):
            yield Piece(start, stop, longest)
            longest = real = 0
        if not longest:
            start, most = row, count
        stop, longest, real = row + 1, most, real + count
    if longest:
        yield Piece(start, stop, longest)


def rounded(count: int, block: int = LEAST_BLOCK) -> int:
    """`count`, rounded up to whole blocks."""
    return -(-count // block) * block
