"""Where caches overtake messages, against values worked out one by one."""

import math
import random
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from latentwire.analysis.break_even_bytes import (
    COLUMNS,
    Point,
    break_even,
    break_even_table,
    sentences,
    text_sentence,
    with_break_even,
)
from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.stats import Outcomes

Make = Callable[..., ConditionResult]


def point(wire_bytes: float, right: int, questions: int = 20) -> Point:
    return wire_bytes, {f"q{number}": number < right for number in range(questions)}


def test_from_the_first_budget_at_which_caches_stay_ahead() -> None:
    texts = [point(0, 4), point(10, 8), point(300, 12)]
    caches = [point(100, 10), point(1000, 11), point(5000, 15), point(9000, 13)]
    # Ahead at 100, behind again at 300: what counts is 5,000, and the worse 9,000 costs nothing.
    questions, found, low, high, _ = break_even(caches, texts, 200, 1)
    assert (questions, found) == (20, 5000)
    assert low < found <= high


def test_the_interval_begins_above_the_last_budget_at_which_caches_were_behind() -> None:
    # Every question is right with the cache and wrong without: each resample says the same.
    caches, texts = [point(100, 20), point(900, 20)], [point(10, 0), point(300, 0)]
    assert break_even(caches, texts, 50, 1)[1:] == (100, 10, 100, 0)
    assert break_even([point(5, 20)], [point(10, 0)], 50, 1)[1:] == (5, 0, 5, 0)


def test_never_is_infinite() -> None:
    texts, caches = [point(10, 20)], [point(100, 20), point(200, 5)]
    # If they ever do, then beyond the largest budget that was measured.
    assert break_even(caches, texts, 100, 1)[1:] == (math.inf, 200, math.inf, 1.0)


def test_equal_is_not_ahead_and_cheaper_is_for_nothing() -> None:
    assert break_even([point(5, 8)], [point(10, 8)], 10, 1)[1] == math.inf
    assert break_even([point(5, 9)], [point(10, 8)], 10, 1)[1] == 5


def brute_force(caches: list[Point], rivals: list[Point]) -> float:
    budgets = sorted({wire_bytes for wire_bytes, _ in caches + rivals})

    def best(points: list[Point], budget: float) -> int:
        return max((sum(right.values()) for b, right in points if b <= budget), default=-1)

    for budget in budgets:
        if all(best(caches, b) > best(rivals, b) for b in budgets if b >= budget):
            return budget
    return math.inf


@pytest.mark.parametrize("seed", range(30))
def test_against_brute_force(seed: int) -> None:
    chance = random.Random(seed)

    def some(count: int) -> list[Point]:
        return [
            (chance.choice([0.0, 1, 8, 30, 30, 200, 900]),
             {f"q{n}": chance.random() < chance.random() for n in range(15)})
            for _ in range(count)
        ]  # fmt: skip

    caches, rivals = some(chance.randint(1, 6)), some(chance.randint(1, 4))
    _, found, low, high, _ = break_even(caches, rivals, 3, seed)
    assert found == brute_force(caches, rivals)
    assert low < found <= high or found == 0


def test_the_interval_is_of_resampled_questions() -> None:
    caches, rivals = [point(100, 12, 40), point(900, 24, 40)], [point(10, 18, 40)]
    _, _, low, high, never = break_even(caches, rivals, 2000, 5)
    generator = np.random.default_rng(11)
    drawn = []
    for _ in range(2000):
        chosen = [f"q{n}" for n in generator.integers(40, size=40)]

        def again(points: list[Point], chosen: list[str] = chosen) -> list[Point]:
            return [
                (b, {str(place): right[name] for place, name in enumerate(chosen)})
                for b, right in points
            ]

        drawn.append(brute_force(again(caches), again(rivals)))
    assert never == pytest.approx(np.isinf(drawn).mean(), abs=0.03)
    first, last = np.quantile(drawn, [0.025, 0.975], method="nearest")
    before = {100: 10, 900: 100, math.inf: 900}  # measured: 10, 100 and 900 bytes
    assert (low, high) == (before[first], last)


def test_only_questions_that_all_were_asked_count() -> None:
    less: Outcomes = {"q0": True, "other": False}
    assert break_even([(5, less)], [point(1, 0)], 10, 1)[0] == 1
    questions, found, *_ = break_even([(5, {"other": True})], [point(1, 0)], 10, 1)
    assert questions == 0 and math.isnan(found)


def test_rows_and_sentences(condition: Make) -> None:
    text = {"system": "text", "codec": "utf8", "message_tokens": 8}
    results = [
        condition("AAAA", wire_bytes=5000),
        condition("BBBB", wire_bytes=5000, control="deranged", donors="ABCD"),
        condition("ABBB", **text, wire_bytes=20),
        condition("AAAA", system="letter", wire_bytes=1),
        condition("AAAA", system="sharer"),  # knows more than the receiver: no rival
        condition("BBBB", system="receiver"),
    ]
    frame = break_even_table(results, resamples=100)
    assert frame["rivals"].tolist() == ["text", "any message"]
    assert frame["bytes"].tolist() == [5001.5, math.inf]
    assert frame["questions"].tolist() == [4, 4]
    first, second = sentences(frame)
    assert first.startswith(
        "set, demo: caches beat, from 5 kB on, text (95 % interval: above 21.5 B, "
    )
    assert second.startswith("set, demo: caches never beat any message (")
    assert break_even_table(results[:2], resamples=10).empty

    curve = build_curve(results)
    assert curve["beats_text_bytes"].isna().all() and text_sentence(curve) == ""
    told = with_break_even(curve, frame)
    low, high = frame.loc[0, ["bytes_low", "bytes_high"]]
    assert (told["beats_text_bytes"] == 5001.5).all()
    assert (told["beats_text_bytes_low"] == low).all()
    assert (told["beats_text_bytes_high"] == high).all()
    assert text_sentence(told).startswith(
        "Caches beat text from 5 kB on (thin line; 95 % interval: above 21.5 B, "
    )
    assert text_sentence(told).endswith(" No text, and beaten by no cache: letter (2.5 B).")
    assert text_sentence(told) in " ".join(caption(told).split())
    never = told.assign(beats_text_bytes=math.inf)
    assert "Caches never beat text (95 %" in " ".join(caption(never).split())
    assert with_break_even(curve, frame[:0])["beats_text_bytes"].isna().all()


def caption(frame: pd.DataFrame) -> str:
    figure = draw_budget_curve(frame, "set", "demo")
    return figure.texts[-1].get_text()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((9290, 6, 9290, 0.004), "95 % interval: above 6 B, at most 9.29 kB, 40 questions"),
        ((9290, 0, 9290, 0.0), "95 % interval: at most 9.29 kB, 40 questions"),
        ((188_200, 187_900, 188_200, 0.0), "95 % interval: about 188 kB, 40 questions"),
        (
            (9290, 6, math.inf, 0.03),
            "95 % interval: above 6 B, or never; never in 3 % of resamples, 40 questions",
        ),
        ((math.inf, 76_100, math.inf, 1.0), "in 100 % of resamples, 40 questions"),
    ],
)
def test_what_says_nothing_is_left_out(numbers: tuple[float, ...], words: str) -> None:
    frame = pd.DataFrame([("demo", "set", "local", "text", 40, *numbers)], columns=list(COLUMNS))
    assert sentences(frame)[0].endswith(f" text ({words}).")
