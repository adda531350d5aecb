"""Tokens of runs, worked out together, are those that each row says."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentwire.channel.positions import Positions
from latentwire.channel.sent_rows import SentRows
from latentwire.channel.tokens_of_runs import table_of, tokens_of_rows, tokens_of_runs

CPU = torch.device("cpu")


@given(st.lists(st.lists(st.sets(st.integers(0, 20)), min_size=3, max_size=3), min_size=1))
def test_what_rows_and_layers_send_is_listed(rows: list[list[set[int]]]) -> None:
    """Rows whose layers differ and rows whose do not, some of none."""
    chosen = SentRows(
        Positions.of(layers[0]) if 3 in layers[1] else Positions.of_layers(layers, range(21))
        for layers in rows
    )
    table = table_of(chosen, 3)
    wanted = [
        (layer, row, run.start, len(run), sum(map(len, each.runs(layer)[:number])))
        for layer in range(3)
        for row, each in enumerate(chosen)
        for number, run in enumerate(each.runs(layer))
    ]
    assert list(zip(*map(np.ndarray.tolist, table), strict=True)) == wanted
    counts = [len(each.tokens(layer)) for layer in range(3) for each in chosen]
    assert np.diff(table.ends(3, len(rows))).tolist() == counts
    index, most = tokens_of_rows(chosen, 3, CPU)
    assert index.shape[2] == max(most)
    for layer, found in enumerate(index):
        assert most[layer] == max(1, *(len(each.tokens(layer)) for each in chosen), 1)
        expected = [each.tokens(layer) or [0] for each in chosen]
        assert found.tolist() == [row + row[-1:] * (max(most) - len(row)) for row in expected]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1))
def test_rows_of_one_section_or_none_are_those_tokens(rows: list[tuple[int, int]]) -> None:
    chosen = SentRows(Positions.of(range(start, start + count)) for start, count in rows)
    ((found,), (most,)) = tokens_of_rows(chosen, 1, CPU)
    expected = [each.tokens(0) or [0] for each in chosen]
    assert most == max(map(len, expected))
    assert found.tolist() == [row + row[-1:] * (most - len(row)) for row in expected]


def test_one_layer_of_rows_of_none() -> None:
    index, most = tokens_of_rows(SentRows([Positions()] * 2), 1, CPU)
    assert (index.tolist(), most) == ([[[0], [0]]], [1])


def test_numbers_of_a_run_are_those_of_its_tokens() -> None:
    columns = np.array([7, 8, 9]), np.array([1, 2, 3])
    numbers, place = tokens_of_runs(columns, np.array([2, 0, 3]), CPU)
    assert numbers.T.tolist() == [[7, 1]] * 2 + [[9, 3]] * 3
    assert place.tolist() == [0, 1, 0, 1, 2]
