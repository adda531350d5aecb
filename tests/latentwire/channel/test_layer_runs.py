"""Runs by layer as a table say what tuples of ranges say."""

from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from c2c.sections import Runs, runs_of
from latentwire.channel.layer_runs import LayerRuns, all_within
from latentwire.channel.positions import is_runs

ANY = st.builds(range, st.integers(-2, 6), st.integers(-2, 9))
LAYERS = st.lists(st.sets(st.integers(0, 30)), max_size=5)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 4), st.randoms())
def test_runs_of_tokens_in_any_order(counts: list[int], layers: int, draw: Random) -> None:
    rows = [
        np.array([draw.sample(range(14), count) for _ in range(layers)], dtype=int)
        for count in counts
    ]
    rows = [row.reshape(layers, count) for row, count in zip(rows, counts, strict=True)]
    found = LayerRuns.of_tokens(rows)
    assert [*map(tuple, found)] == [tuple(map(runs_of, row.tolist())) for row in rows]
    assert [each.counts() for each in found] == [(count,) * layers for count in counts]


RUNS = st.lists(st.sets(st.integers(0, 9)).map(runs_of), min_size=2, max_size=2)


@given(st.lists(st.tuples(RUNS, st.sets(st.integers(0, 9))), min_size=1, max_size=4))
@example([([(range(4, 5),), ()], {0, 1, 2}), ([(), ()], {0})])  # behind the sections of all rows
def test_rows_within_their_sections_are_seen_at_once(
    told: list[tuple[list[Runs], set[int]]],
) -> None:
    rows, sections = [LayerRuns.of(runs) for runs, _ in told], [runs_of(own) for _, own in told]
    within = all(not len(row.outside(own)) for row, own in zip(rows, sections, strict=True))
    assert all_within(rows, sections) == within


@given(st.lists(st.lists(ANY, max_size=2).map(tuple), min_size=1, max_size=3))
def test_rows_that_do_not_ascend_are_seen_at_once(layers: list[Runs]) -> None:
    wide = (range(9),)
    rows = [LayerRuns.of((layer,)) for layer in layers]
    assert all_within(rows, [wide] * len(rows)) == all(map(is_runs, layers))


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
    assert found.counts() == tuple(map(len, layers))
    assert found.are(sections, named) == (runs == only and all(runs[n] == sections for n in named))
    outside = [n for n, tokens in enumerate(layers) if not tokens <= section]
    assert sorted({*found.outside(sections).tolist()}) == outside


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
