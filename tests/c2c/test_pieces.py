"""Pieces hold every row that has tokens, within what may go together."""

from hypothesis import given
from hypothesis import strategies as st

from c2c.pieces import AtOnce, pieces, rounded


def test_rows_of_one_length_fill_pieces() -> None:
    assert list(pieces([10] * 5, AtOnce(25, 0))) == [(0, 2, 10), (2, 4, 10), (4, 5, 10)]
    assert list(pieces([100] * 2, AtOnce(25, 0))) == [(0, 1, 100), (1, 2, 100)]
    assert list(pieces([], AtOnce(25, 0))) == list(pieces([0, 0], AtOnce(25, 9))) == []


def test_a_piece_ends_where_padding_costs_more_than_a_pass() -> None:
    assert list(pieces([9, 8, 7, 1], AtOnce(1000, 3))) == [(0, 3, 9), (3, 4, 1)]
    assert list(pieces([9, 8, 7, 1], AtOnce(1000, 11))) == [(0, 4, 9)]
    assert list(pieces([1, 9], AtOnce(1000, 7))) == [(0, 1, 1), (1, 2, 9)]
    assert list(pieces([0, 4, 0, 4, 0], AtOnce(1000, 4))) == [(1, 4, 4)]


@given(st.lists(st.integers(0, 20)), st.integers(1, 60), st.integers(0, 40))
def test_all_rows_with_tokens_are_in_one_piece(tokens: list[int], most: int, padding: int) -> None:
    found = list(pieces(tokens, AtOnce(most, padding)))
    held = [row for piece in found for row in range(piece.start, piece.stop)]
    assert held == sorted(set(held))
    assert {row for row, count in enumerate(tokens) if count} <= set(held)
    for start, stop, longest in found:
        part = tokens[start:stop]
        assert longest == max(part) and part[0] and part[-1]
        assert len(part) == 1 or len(part) * longest <= most
        assert len(part) * longest - sum(part) <= padding


def test_counts_are_rounded_up_to_blocks() -> None:
    assert [rounded(count, 8) for count in (0, 1, 8, 9)] == [0, 8, 8, 16]
