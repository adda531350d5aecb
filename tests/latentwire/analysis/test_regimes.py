"""Regimes: cross-fitted by hand, ties to fewer bytes, times from what was measured."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from latentwire.analysis.break_even_bandwidth import Route
from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.measured_condition import MeasuredCondition
from latentwire.analysis.pictures import save_each
from latentwire.analysis.regimes import contenders, half_of, judged
from latentwire.analysis.regimes_figure import draw_maps
from latentwire.analysis.regimes_table import cell_rows, overview, regime_table, sentences
from latentwire.analysis.regimes_times import time_ms, way_of, ways, why_unknown
from latentwire.evaluation.latency_names import (
    BUDGETS,
    FUSE,
    LETTER_WRITE,
    RECEIVER_PREFILL,
    SHARER_PREFILL,
    coded_names,
    summary_name,
    text_names,
)
from latentwire.evaluation.record import Record
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.spec.names import short_codec

N = 40
PLAIN = Record("", 0, "A", "A", True, 9, 1, 0, "A")
IDS = [f"q{n}" for n in range(N)]
HALF = {name: half_of(replace(PLAIN, example_id=name)) for name in IDS}


def measured(condition: Condition, right: set[str], wire_bytes: int) -> MeasuredCondition:
    records = {
        name: replace(PLAIN, example_id=name, correct=name in right, wire_bytes=wire_bytes)
        for name in IDS
    }
    part = ConditionResult(
        **vars(condition.point),
        pair="pair",
        dataset="set",
        source="local",
        examples_total=N,
        records=tuple(records.values()),
        seconds=0,
    )
    return MeasuredCondition(part, records)


def half(which: int) -> set[str]:
    return {name for name in IDS if HALF[name] == which}


FIRST = measured(Condition("c2c", Channel("int8"), "matched"), half(0), 500)
SECOND = measured(Condition("c2c", Channel("int4"), "matched"), half(1), 300)
TEXT = measured(Condition("text", control="matched", message=Message("utf8", 8)), set(IDS), 20)
ALONE = measured(Condition("receiver"), set(), 0)
LETTER = measured(Condition("letter", control="matched"), set(IDS[:-1]), 1)


def test_no_question_chooses_what_it_is_scored_by() -> None:
    """Each codec is right throughout on one half: chosen there, it is scored on the other."""
    assert 0 < len(half(0)) < N
    (cache,) = contenders([FIRST, SECOND], 1000)
    assert cache.score == 0  # a choice by the same questions would have said 100 %
    assert {one.part.codec for one in cache.conditions} == {"int8", "int4"}
    sizes = [500 if HALF[name] == 1 else 300 for name in IDS]
    assert cache.wire_bytes == pytest.approx(sum(sizes) / N)
    assert len(cache.records) == N


def test_only_what_is_within_the_budget_counts() -> None:
    (cache,) = contenders([FIRST, SECOND, TEXT], 400)[1:]
    assert [one.part.codec for one in cache.conditions] == ["int4"]
    long = dict(SECOND.records) | {"q3": replace(SECOND.records["q3"], wire_bytes=401)}
    assert not contenders([MeasuredCondition(SECOND.part, long)], 400)
    empty = {name: replace(record, wire_bytes=0) for name, record in FIRST.records.items()}
    found = contenders([ALONE, MeasuredCondition(FIRST.part, empty)], 400)
    assert [each.kind for each in found] == ["nothing"]  # no message fitted: nothing was sent


def test_ties_go_to_fewer_bytes_and_differences_do_not() -> None:
    found = contenders([ALONE, LETTER, TEXT, SECOND], 1000)
    verdict = judged(found)
    assert [each.kind for each in verdict.tied] == ["answer", "text"]
    assert verdict.winner.kind == "answer"  # one question less, 19 bytes less
    assert judged([each for each in found if each.kind in ("nothing", "cache")]).winner.kind == (
        "cache"
    )


def test_times_are_those_that_were_measured() -> None:
    (text,) = contenders([TEXT], 1000)
    ways = {"text 8 tokens": Route("text", "text 8 tokens", 0, 30, 5, 999)}
    assert time_ms(text, ways, 1e3) == pytest.approx(30 + 8000 * 20 / 1e3 + 5)
    assert math.isnan(time_ms(text, {}, 1e3))
    (cache,) = contenders([FIRST, SECOND], 1000)
    one = {"int8": Route("cache", "int8", 0, 30, 5, 999)}
    assert math.isnan(time_ms(cache, one, 1e3))  # the other half's is not known
    both = one | {"int4": Route("cache", "int4", 70, 10, 1, 999)}
    of_each = {1: 35 + 8000 * 500 / 1e6, 0: max(70, 10 + 8000 * 300 / 1e6) + 1}
    expected = sum(of_each[HALF[name]] for name in IDS) / N
    assert time_ms(cache, both, 1e6) == pytest.approx(expected)


def test_what_m1_measured_times_the_receiver_alone_and_logits_too() -> None:
    times = {SHARER_PREFILL: 20.0, RECEIVER_PREFILL: 12.0, FUSE: 3.0}
    for tokens in BUDGETS:
        times |= dict(zip(text_names(tokens), (100.0, 15.0, 40.0), strict=True))
    codec = {"encode_ms_mean": 1.0, "decode_ms_mean": 2.0, "wire_bytes_mean": 999.0}
    asked, stands = (ways({"int8": codec}, times, start) for start in ("question", "cache"))
    logits = measured(Condition("logits", control="matched"), set(IDS), 8)
    found = {each.kind: each for each in contenders([ALONE, logits, TEXT, FIRST], 1000)}
    sent = {kind: 8000 * size / 1e6 for kind, size in (("answer", 8), ("text", 20), ("cache", 500))}
    expected = {"nothing": 12, "answer": 20 + sent["answer"], "text": 115 + sent["text"]}
    expected["cache"] = 20 + 3 + sent["cache"] + 3
    assert {kind: time_ms(each, asked, 1e6) for kind, each in found.items()} == pytest.approx(
        expected
    )
    assert time_ms(found["answer"], stands, 1e6) == 12  # the receiver's own reading is longer
    assert not any(why_unknown(each, asked) for each in found.values())
    (letter,) = contenders([LETTER], 1000)
    assert math.isnan(time_ms(letter, asked, 1e6))  # of a store whose m1 did not time it
    asked, stands = (ways({}, times | {LETTER_WRITE: 30.0}, s) for s in ("question", "cache"))
    assert time_ms(letter, asked, 1e6) == pytest.approx(20 + 30 + 8000 / 1e6)
    assert time_ms(letter, stands, 1e6) == pytest.approx(30 + 8000 / 1e6)
    condition = Condition("text", control="matched", message=Message("lm", 8))
    (coded,) = contenders([measured(condition, set(IDS), 6)], 1000)
    known = ways({}, times | dict(zip(coded_names(8), (7.0, 40.0, 6.0), strict=True)), "question")
    assert time_ms(coded, known, 1e6) == pytest.approx(100 + 7 + 8000 * 6 / 1e6 + 40 + 15)
    known = ways({}, times | {summary_name(8): 50.0}, "question")
    for codec in ("utf8", "utf8+zstd"):
        condition = Condition("summary", control="matched", message=Message(codec, 8))
        (summary,) = contenders([measured(condition, set(IDS), 6)], 1000)
        assert time_ms(summary, known, 1e6) == pytest.approx(50 + 8000 * 6 / 1e6 + 15)
    known = ways(
        {},
        times | {summary_name(8): 50.0} | dict(zip(coded_names(8), (7.0, 40.0, 6.0), strict=True)),
        "cache",
    )
    condition = Condition("summary", control="matched", message=Message("lm", 8))
    (coded,) = contenders([measured(condition, set(IDS), 6)], 1000)
    assert time_ms(coded, known, 1e6) == pytest.approx(50 + 7 + 8000 * 6 / 1e6 + 40 + 15)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (Condition("letter", control="matched"), "before its letter: run m1 again"),
        (Condition("text", control="matched", message=Message("lm", 8)), "model: run m1 again"),
        (Condition("text", control="matched", message=Message("lm", 9)), "8, 32, 128, 256 tok"),
        (Condition("summary", control="matched", message=Message("utf8", 8)), "a summary: run"),
        (
            Condition("summary", control="matched", message=Message("utf8", 9)),
            "8, 32, 128, 256 tok",
        ),
        (Condition("text", control="matched", message=Message("utf8", 9)), "8, 32, 128, 256 tok"),
        (Condition("c2c", Channel("int4"), "matched"), "m1 has not timed int4"),
    ],
)
def test_what_no_one_timed_says_why(condition: Condition, why: str) -> None:
    each = contenders([measured(condition, set(IDS), 8)], 1000)[0]
    known = {"nothing": Route("nothing", "nothing", 0, 0, 12, 0)}
    assert math.isnan(time_ms(each, known, 1e6))
    (said,) = why_unknown(each, known)
    assert why in said
    assert why_unknown(each, {}) == ["m1 has measured nothing of this pair and question set"]


def test_a_text_takes_the_time_of_its_tokens_however_it_is_sent() -> None:
    for message in (Message("utf8+zstd", 8), Message("utf8", 8, 64)):
        condition = Condition("text", control="matched", message=message)
        assert way_of(measured(condition, set(), 9)) == "text 8 tokens"


def test_cells_say_who_wins_by_how_much_and_how_stable_that_is(tmp_path: Path) -> None:
    whole = measured(Condition("c2c", Channel("bf16"), "matched"), set(IDS), 4000)
    found = contenders([ALONE, TEXT, SECOND], 1000)
    lent = [measured(Condition("receiver"), right, 0).records for right in (set(), half(0))]
    gains = {("pair", "set", SECOND.part.place): lent}
    links = {
        start: {
            "recomputation": Route("recomputation", "recomputation", 0, 50, 5, 0),
            "text 8 tokens": Route("text", "text 8 tokens", 0, 30, 5, 20),
        }
        for start in ("question", "cache")
    }
    values = {"link_mbit_per_s": (1.0, 100.0)}
    rows = cell_rows(("pair", "set"), 1000, found, [whole], links, gains, values)
    assert len(rows) == 4
    row = rows[0]
    assert (row["winner"], row["tied"], row["soonest"]) == ("text", "text", "text")
    assert row["cache_against_text"] == pytest.approx(len(half(1)) / N - 1)
    assert row["cache_against_text_low"] < row["cache_against_text"]
    assert row["winner_against_recomputation"] == 0 and row["recomputation_score"] == 1
    assert row["text_ms"] == pytest.approx(35 + 8000 * 20 / 1e6)
    assert row["recomputation_ms"] == 55
    assert row["cache_gain_donors"] == 2
    assert row["cache_gain_max"] == pytest.approx(len(half(1)) / N)
    assert row["cache_gain_min"] == pytest.approx((len(half(1)) - len(half(0))) / N)
    table = regime_table(rows)
    said = sentences(table)
    assert len(said) == 4 and said[0].startswith("set, pair (shared), within 1 kB, 1 Mbit/s")
    assert "text (text 8 tokens, 20 B) wins with 100.0 %" in said[0]
    assert all(
        path.stat().st_size > 5000 for path in save_each(draw_maps, table, tmp_path, "regimes_")
    )


def test_a_searched_schedule_is_named_shortly_in_sentences_and_whole_in_the_table() -> None:
    """The two halves of the questions may have been won by another each."""
    schedules = ["int2/" + "/".join(f"k{n}:int{bits}" for n in range(9)) for bits in (3, 4)]
    won = [
        measured(Condition("c2c", Channel(name), "matched"), {*IDS} - {min(half(1 - side))}, 90)
        for side, name in enumerate(schedules)
    ]
    found = contenders([ALONE, *won], 1000)
    (row,) = cell_rows(
        ("pair", "set"), 1000, found, [], {"question": {}}, {}, {"link_mbit_per_s": (1.0,)}
    )
    table = regime_table([row])
    assert table["cache_condition"].item() == " / ".join(schedules[::-1])
    said = sentences(table)[0]
    assert all(name not in said for name in schedules)
    assert all(short_codec(name) in said for name in schedules)


def test_without_times_or_messages_a_cell_says_so() -> None:
    values = {"link_mbit_per_s": (1.0,)}
    links = {"question": {}, "cache": {}}
    found = contenders([ALONE], 1000)
    assert not cell_rows(("pair", "set"), 1000, found, [], links, {}, values)
    found = contenders([ALONE, TEXT], 1000)
    row, _ = cell_rows(("pair", "set"), 1000, found, [], links, {}, values)
    assert row["soonest"] == "not measured" and row["cache_gain_donors"] == 0
    later, other = row | {"budget_bytes": 4000}, row | {"budget_bytes": 9000, "tied": "text, cache"}
    slow = {"link_bit_per_s": 1000.0}
    table = regime_table(
        [each | link for each in (row, later, other) for link in ({}, slow)]
        + [other | slow | {"budget_bytes": 10_000}, row | {"budget_bytes": 10_000}]
    )
    *told, _ = overview(table)
    heads = [
        each.partition(": text")[0].removeprefix("set, pair (shared), within ") for each in told
    ]
    assert heads == [
        "1 kB to 4 kB, on every link",
        "9 kB, on every link",
        "10 kB, 1 kbit/s, from the question on",
        "10 kB, 1 Mbit/s, from the question on",
    ]
    said = sentences(regime_table([row, row]))
    assert "first" not in said[0] and said[2:] == [
        "set, pair: not all times are known: m1 has measured nothing of this pair and question set."
    ]
