"""Runs by layer as a table say what tuples of ranges say."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from c2c.sections import Runs, runs_of
from latentwire.channel.layer_runs import LayerRuns
from latentwire.channel.positions import is_runs

LAYERS = st.lists(st.sets(st.integers(0, 30)), max_size=5)


@given(st.integers(0, 12), st.lists(st.permutations(range(14)), max_size=4))
def test_runs_of_tokens_in_any_order(count: int, rows: list[list[int]]) -> None:
    tokens = np.array(rows, dtype=int).reshape(len(rows), 14)[:, :count]
    assert tuple(LayerRuns.of_tokens(tokens)) == tuple(map(runs_of, tokens.tolist()))


@given(LAYERS, st.sets(st.integers(0, 4)), st.sets(st.integers(0, 30)))
def test_what_the_table_says_is_what_the_ranges_say(
    layers: list[set[int]], named: set[int], section: set[int]
) -> None:
    runs, sections = tuple(map(runs_of, layers)), runs_of(section)
    found = LayerRuns.of(runs)
    named = {layer for layer in named if layer < len(layers)}
    only = tuple(own if layer in named else () for layer, own in enumerate(runs))
    assert found == runs and hash(found) == hash(runs) and tuple(found) == runs
    assert found.only(named) == only
    assert found.counts() == list(map(len, layers))
    assert found.are(sections, named) == (runs == only and all(runs[n] == sections for n in named))
    outside = [n for n, tokens in enumerate(layers) if not tokens <= section]
    assert sorted({*found.outside(sections).tolist()}) == outside


ANY = st.builds(range, st.integers(-2, 6), st.integers(-2, 9))


@given(st.lists(st.lists(ANY, max_size=3).map(tuple), max_size=3))
@example([(range(2),), (range(1), range(1, 3))])  # two that touch
@example([(range(3, 4), range(1, 2)), ()])
@example([(range(3, 4),), (range(1, 2),)])
def test_what_does_not_ascend_is_seen(layers: list[Runs]) -> None:
    assert LayerRuns.of(layers).ascend() == all(map(is_runs, layers))


def test_layers_that_differ_are_not_equal() -> None:
    found = LayerRuns.of(((range(3),), ()))
    assert found not in (((range(3),),), ((), (range(3),)), ((range(2),), ()), 1)
    with pytest.raises(IndexError):
        found[2]
