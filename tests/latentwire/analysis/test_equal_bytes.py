"""The table of equal bytes, recomputed from the records by hand; its sentences and its picture."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from latentwire.analysis.donors import DonorAnswers
from latentwire.analysis.equal_bytes import (
    ALONE,
    Chosen,
    Tried,
    best_tried,
    equal_bytes_table,
    sentences,
)
from latentwire.analysis.equal_bytes_figure import draw_equal_bytes
from latentwire.analysis.noninferiority import difference_interval
from latentwire.analysis.paired_scores import compare_with_donors
from latentwire.analysis.pictures import save_each
from latentwire.evaluation.record import Record
from latentwire.spec.condition import Channel, Condition, Message

CACHE = Condition("c2c", Channel("int4", order="back", budget_bytes=64), "matched")
TEXT = Condition("text", control="matched", message=Message("utf8", 8, 64))
LETTER = Condition("letter", control="matched")


def answers(right: str, wire_bytes: int, cut: str = "") -> dict[str, Record]:
    """A record for each letter: 1 for a right answer; where `cut` has an x, its text was cut."""
    plain = Record("", 0, "A", "A", True, 9, 1, wire_bytes, "A")
    return {
        f"q{n}": replace(
            plain,
            example_id=f"q{n}",
            correct=letter == "1",
            predicted="A" if letter == "1" else "B",
            cut_characters=5 if cut[n : n + 1] == "x" else None,
        )
        for n, letter in enumerate(right)
    }


CHOSEN = [
    Chosen(64, "cache", CACHE, 0.9, "other questions", 16_000_000),
    Chosen(64, "text", TEXT, 0.5, "other questions"),
    Chosen(64, "letter", LETTER, 0.7, "other questions"),
]
OTHERS = DonorAnswers([answers("1000000000", 60)])
RECORDS = {
    CACHE: (answers("1111011100", 60), OTHERS),
    TEXT: (answers("1100000000", 10, "xxx"), DonorAnswers([answers("0000000000", 10)])),
    LETTER: (answers("1111100000", 1), DonorAnswers([answers("0011000000", 1)])),
}


def table(records=RECORDS):
    found = equal_bytes_table("pair", "set", CHOSEN, records, answers("1000000000", 0))
    return found, found.set_index("kind")


def test_what_a_row_says_is_what_the_records_say() -> None:
    found, by_kind = table()
    assert list(found["kind"]) == [ALONE, "cache", "text", "letter"]
    cache, text, letter = (by_kind.loc[name] for name in ("cache", "text", "letter"))
    assert cache["score"] == 0.7 and cache["deranged_score"] == 0.1
    assert cache["pairing_gain"] == pytest.approx(0.6)
    assert cache["against_message"] == pytest.approx(0.7 - 0.5)  # the letter, by development
    assert cache["against_message_low"] < 0.2 < cache["against_message_high"]
    assert text["against_message"] == pytest.approx(0.2 - 0.5)
    assert math.isnan(letter["against_message"])
    assert (cache["unused_bytes_mean"], text["unused_bytes_mean"]) == (4, 54)
    assert text["cut_share"] == pytest.approx(0.3) and cache["cut_share"] == 0
    # Wilson's interval of 7 of 10, by its formula
    z, p, n = 1.959964, 0.7, 10
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert cache["score_low"] == pytest.approx(middle - half, abs=1e-6)
    assert cache["score_high"] == pytest.approx(middle + half, abs=1e-6)
    assert list(found["best_cache"]) == [False, True, False, False]
    assert list(found["best_text"]) == [False, False, True, False]
    assert list(found["best_message"]) == [False, False, False, True]
    assert list(found["on_front"]) == [True, True, False, True]


def test_all_donors_count_as_in_the_curve() -> None:
    """The gain of four donors is the mean over them, tested by the own message's ranks; a donor of
    another length is in none of it."""
    lent = [answers(right, 60) for right in ("1000000000", "0100000000", "1100000000", "1" * 10)]
    lent[3] = {name: replace(each, donor_tokens=8) for name, each in lent[3].items()}
    _, by_kind = table(RECORDS | {CACHE: (RECORDS[CACHE][0], DonorAnswers(lent))})
    cache = by_kind.loc["cache"]
    assert cache["donors"] == 4 and cache["deranged_score"] == pytest.approx((1 + 1 + 2 + 10) / 40)
    assert cache["pairing_gain"] == pytest.approx(0.7 - (1 + 1 + 2) / 30)
    own = {name: record.correct for name, record in RECORDS[CACHE][0].items()}
    others = [{name: record.correct for name, record in each.items()} for each in lent[:3]]
    interval = difference_interval(compare_with_donors(own, others))
    assert (cache["pairing_gain_low"], cache["pairing_gain_high"]) == interval


def test_the_test_set_decides_nothing() -> None:
    """A text that is right throughout stays behind the letter that was better before."""
    _, by_kind = table(RECORDS | {TEXT: (answers("1111111111", 10), RECORDS[TEXT][1])})
    assert by_kind.loc["letter", "best_message"] and not by_kind.loc["text", "best_message"]
    assert by_kind.loc["text", "against_message"] == pytest.approx(0.5)


def test_what_is_longer_than_its_budget_is_none_of_the_best() -> None:
    long = {**answers("1111100000", 1), "q3": replace(answers("1", 65)["q0"], example_id="q3")}
    _, by_kind = table(RECORDS | {LETTER: (RECORDS[LETTER][0], DonorAnswers([long]))})
    assert by_kind.loc["letter", "over_budget"] == 1
    assert not by_kind.loc["letter", "best_message"] and not by_kind.loc["letter", "on_front"]
    assert by_kind.loc["text", "best_message"]


def test_the_best_that_was_tried() -> None:
    ways = [Tried(CACHE, 0.5, 40, 40), Tried(TEXT, 0.5, 20, 30), Tried(LETTER, 0.9, 1, 100)]
    best = best_tried(ways, 64)
    assert best is not None and best.condition == TEXT  # fewer bytes; the letter once had 100
    assert best_tried(ways, 10) is None
    alike = [Tried(CACHE, 0.5, 20, 20), Tried(TEXT, 0.5, 20, 20)]
    first = best_tried(alike, 64)
    assert first is not None and first.condition == CACHE


def test_the_headline_names_the_best_cache_and_the_best_message(tmp_path: Path) -> None:
    found, _ = table()
    (said,) = sentences(found)
    assert "bytes, 16 MB known beforehand)" in said and said.count("known beforehand") == 1
    assert list(found["known_bytes"]) == [0, 16_000_000, 0, 0]
    assert list(found["development_set"][1:]) == ["other questions"] * 3
    assert said.startswith("set, pair, within 64 bytes: best cache: int4 back within 64 bytes")
    assert "best of any message: letter (1 bytes) 50.0 %" in said and "+20.0 points" in said
    paths = save_each(draw_equal_bytes, found, tmp_path, "equal_bytes_")
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf"]
    assert all(path.stat().st_size > 5000 for path in paths)
