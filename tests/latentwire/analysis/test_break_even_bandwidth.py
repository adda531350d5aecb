"""Who answers first over a link, against looking at every bandwidth."""

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.analysis.bandwidth_figure import link_figures_from_csv, write_link_figures
from latentwire.analysis.break_even_bandwidth import (
    COLUMNS,
    Route,
    break_even,
    fastest,
    link_table,
    read_csv,
    routes,
    sentences,
    span,
    table_routes,
)
from latentwire.analysis.csv_files import write_csv
from latentwire.errors import LatentWireError
from latentwire.evaluation.latency_names import BUDGETS, text_names

TIMES = {"sharer_prefill_ms": 30.0, "receiver_prefill_ms": 25.0, "fuse_ms": 5.0}
for number, budget in enumerate(BUDGETS):
    write, reading, size = text_names(budget)
    TIMES |= {write: 40.0 + 20 * budget, reading: 25.0 + number, size: 5.0 * budget}
CODECS = {
    "bf16": {"encode_ms_mean": 1.0, "decode_ms_mean": 1.0, "wire_bytes_mean": 1e7},
    "int4": {"encode_ms_mean": 3.0, "decode_ms_mean": 2.0, "wire_bytes_mean": 2.6e6},
}

duration = st.floats(0, 1e4, allow_subnormal=False).map(lambda x: round(x, 3))
some_ways = st.lists(
    st.builds(
        Route, st.just("cache"), st.uuids().map(str), duration, duration, duration,
        st.one_of(st.just(0.0), st.floats(1, 1e9).map(round).map(float)),
    ),
    min_size=1, max_size=7,
)  # fmt: skip


@given(some_ways, st.floats(-2, 14))
def test_first_is_first(found: list[Route], exponent: float) -> None:
    pieces = fastest(found)
    assert pieces[0][0] == 0 and math.isinf(pieces[-1][1])
    for (_, end, one), (start, _, other) in pairwise(pieces):
        assert end == start and one != other
    bandwidth = 10**exponent
    soonest = min(way.time_ms(bandwidth) for way in found)
    (winner,) = (way for low, high, way in pieces if low <= bandwidth < high)
    assert winner.time_ms(bandwidth) == pytest.approx(soonest, rel=1e-9, abs=1e-9)


@given(some_ways, duration, st.sampled_from([0.0, 700.0, 1e8]))
def test_where_a_way_overtakes_recomputation(
    found: list[Route], fixed_ms: float, text_bytes: float
) -> None:
    again = Route("recomputation", "recomputation", 0.0, fixed_ms, 0.0, text_bytes)
    for way in found:
        limit = break_even(way, again)
        if math.isinf(limit):
            assert way.time_ms(1e30) >= again.time_ms(1e30) - 1e-6
        elif limit > 0:
            assert way.time_ms(limit * 1.001) <= again.time_ms(limit * 1.001)
            assert way.time_ms(limit * 0.999) >= again.time_ms(limit * 0.999)
        else:
            assert way.bytes <= text_bytes and way.time_ms(1) < again.time_ms(1)


def test_the_formula() -> None:
    found = {way.label: way for way in routes(CODECS, TIMES, "question")}
    # 10 MB at 1 Gbit/s are 80 ms; the receiver has read its prompt long before.
    assert found["bf16"].time_ms(1e9) == pytest.approx(30 + 2 + 80 + 5)
    assert found["recomputation"].time_ms(1) == 30 + 25 + 5
    assert found["text 8 tokens"].time_ms(1e3) == pytest.approx(40 + 160 + 320 + 25)
    later = {way.label: way for way in routes(CODECS, TIMES, "cache")}
    # So fast that the receiver's own prompt is what is waited for.
    assert later["int4"].time_ms(1e13) == pytest.approx(25 + 5)
    assert break_even(found["int4"], found["recomputation"]) == pytest.approx(8 * 2.6e6 / 0.020)
    assert break_even(later["int4"], later["recomputation"]) == pytest.approx(8 * 2.6e6 / 0.050)


def test_evidence_that_the_sharer_alone_has_is_sent_and_read_again() -> None:
    times = {**TIMES, "evidence_read_ms": 90.0, "evidence_bytes": 4000.0}
    found = {way.label: way for way in routes(CODECS, times, "cache")}
    # 32 kbit at 1 Mbit/s; the receiver's prompt is read once the cache is there, not before.
    assert found["recomputation"].time_ms(1e6) == pytest.approx(32 + 90)
    assert found["int4"].time_ms(1e9) == pytest.approx(5 + 20.8 + 25 + 5)
    at = break_even(found["int4"], found["recomputation"])
    assert at == pytest.approx(8 * (2.6e6 - 4000) / (0.090 - 0.030 - 0.005))
    place = {"pair": "p", "dataset": "d", "device": "cpu"}
    codecs = pd.DataFrame([{**place, "codec": name, **values} for name, values in CODECS.items()])
    both = pd.DataFrame([{**place, **times}, {**place, "dataset": "shared", **TIMES}])
    known = {(*key, name): 0.5 for key in (("p", "d"), ("p", "shared")) for name in CODECS}
    said = sentences(link_table(codecs, both, known))
    assert "sooner than recomputation from the evidence as text from 378 Mbit/s on" in said[1]
    assert "as text" not in said[2] + said[3]


def table(**others: object) -> pd.DataFrame:
    place = {"pair": "p", "dataset": "d", "device": "cpu"}
    codecs = pd.DataFrame([{**place, "codec": name, **values} for name, values in CODECS.items()])
    known = {("p", "d", "bf16"): 0.625, ("p", "d", "int4"): 0.5, ("p", "d", "text", "8"): 0.25}
    return link_table(codecs, pd.DataFrame([{**place, **TIMES}]), known, **others)  # type: ignore[arg-type]


def test_in_words() -> None:
    said = sentences(table())
    assert said == [
        "d, p, from the question on: first to answer is recomputation (62.5 % right) up to"
        " 1.04 Gbit/s, the cache in int4 (50.0 % right) from 1.04 Gbit/s to 19.7 Gbit/s, the cache"
        " in bf16 (62.5 % right) from 19.7 Gbit/s on; a cache (int4) is sooner than"
        " recomputation from 1.04 Gbit/s on (cpu, batch 1).",
        "d, p, once the sharer's cache stands: first to answer is recomputation (62.5 % right) up"
        " to 416 Mbit/s, the cache in int4 (50.0 % right) from 416 Mbit/s on; a cache (int4) is"
        " sooner than recomputation from 416 Mbit/s on (cpu, batch 1).",
    ]
    assert span(0, math.inf) == "at any bandwidth" and span(5, 10) == "from 5 bit/s to 10 bit/s"


def test_a_table_comes_back_and_draws_the_same(tmp_path: Path) -> None:
    made = table()
    write_csv(made, tmp_path / "links.csv")
    pd.testing.assert_frame_equal(read_csv(tmp_path / "links.csv"), made)
    one = write_link_figures(made, tmp_path / "one")
    other = link_figures_from_csv(tmp_path / "links.csv", tmp_path / "other")
    assert [path.name for path in one] == ["links_d.png", "links_d.svg", "links_d.pdf"]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other]
    rows = made[made["start"] == "cache"]
    assert list(table_routes(rows)) == routes(CODECS, TIMES, "cache")
    assert next(iter(table_routes(rows).values())) == 0.625
    assert np.isnan(table_routes(rows)[routes(CODECS, TIMES, "cache")[-3]])


def test_what_is_at_chance_or_was_not_evaluated_is_never_first(tmp_path: Path) -> None:
    useless = {("p", "d", "int4"), ("p", "d", "text", "8")}
    made = table(no_better=useless)
    rows = made[made["start"] == "question"]
    names = rows["codec"] + rows["message_tokens"]
    over = dict(zip(names, rows["passed_over"], strict=True))
    assert over.pop("int4") == over.pop("8") == "no better than the receiver alone"
    assert over.pop("bf16") == over.pop("") == ""  # the second is recomputation
    assert len(over) == 3 and set(over.values()) == {"not evaluated"}
    assert not made.loc[made["passed_over"] != "", "first_at"].any()
    said = sentences(table(no_better=useless))
    assert all("int4" not in sentence and "in bf16 (62.5 % right)" in sentence for sentence in said)
    none = sentences(table(no_better={*useless, ("p", "d", "bf16")}))
    assert all("so which is first is not said" in sentence for sentence in none)
    write_csv(made.drop(columns="passed_over"), tmp_path / "old.csv")
    assert set(read_csv(tmp_path / "old.csv")["passed_over"]) == {""}


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("a,b\n1,2\n")
    with pytest.raises(LatentWireError, match=r"not a links\.csv \(docs.* it has no column"):
        read_csv(tmp_path / "links.csv")
    with pytest.raises(LatentWireError, match="cannot be read"):
        read_csv(tmp_path / "nothing.csv")


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "links.md").read_text(encoding="utf-8")
    rows = text.split("## Columns", 1)[1].splitlines()
    named = [
        name
        for row in rows
        if row.startswith("|")
        for name in re.findall("`([a-z_]+)`", row.split("|")[1])
    ]
    assert sorted(named) == sorted(COLUMNS)
