"""Tokens of runs, worked out together, are those that each row says."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from latentwire.channel.positions import Positions
from latentwire.channel.tokens_of_runs import tokens_of_rows, tokens_of_runs

CPU = torch.device("cpu")
ROWS = st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=6)


@given(ROWS)
def test_rows_are_filled_up_by_their_last_token(rows: list[set[int]]) -> None:
    found = tokens_of_rows([Positions.of(sorted(row)) for row in rows], 0, CPU)
    longest = max(1, *map(len, rows))
    expected = [sorted(row) or [0] for row in rows]
    assert found.tolist() == [row + row[-1:] * (longest - len(row)) for row in expected]


def test_each_layer_has_its_own() -> None:
    chosen = [Positions.of_layers([[1, 2, 5], [4]], range(6)), Positions()]
    assert tokens_of_rows(chosen, 0, CPU).tolist() == [[1, 2, 5], [0, 0, 0]]
    assert tokens_of_rows(chosen, 1, CPU).tolist() == [[4], [0]]


def test_numbers_of_a_run_are_those_of_its_tokens() -> None:
    numbers, place = tokens_of_runs([(7, 1), (8, 2), (9, 3)], [2, 0, 3], CPU)
    assert numbers.tolist() == [[7, 1]] * 2 + [[9, 3]] * 3
    assert place.tolist() == [0, 1, 0, 1, 2]
