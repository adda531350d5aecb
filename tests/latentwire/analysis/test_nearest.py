"""Which condition is chosen, against a search by hand; and what is said against it."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.nearest import Choice, Wanted, choose
from latentwire.analysis.nearest_report import as_json, render
from latentwire.spec.condition_filter import condition_filter

Make = Callable[..., ConditionResult]
TEXT = {"system": "text", "codec": "utf8", "message_tokens": 8}


def right(count: int, questions: int = 40) -> str:
    return "A" * count + "B" * (questions - count)


@pytest.fixture
def results(condition: Make) -> list[ConditionResult]:
    return [
        condition(right(10), system="receiver"),
        condition(right(40), system="sharer"),
        condition(right(36), codec="bf16", wire_bytes=16_000),
        condition(right(34), codec="int8", wire_bytes=8_000),
        condition(right(34), codec="int4", wire_bytes=4_000),
        condition(right(11), codec="int2", wire_bytes=2_000),
        condition(right(10), codec="int2", wire_bytes=2_000, control="deranged", donors="A" * 40),
        condition(right(20, 20), codec="klt1", wire_bytes=1_000, total=40),  # a trial run
    ]


def chosen(results: Sequence[ConditionResult], wanted: Wanted) -> Choice:
    (choice,) = choose(results, wanted)
    return choice


@pytest.mark.parametrize(
    ("wanted", "codec"),
    [
        (Wanted(most_bytes=1e9), "bf16"),
        (Wanted(most_bytes=9_000), "int4"),  # as good as int8 at half the bytes
        (Wanted(most_bytes=3_000), "int2"),
        (Wanted(least_score=0.86), "bf16"),
        (Wanted(least_score=0.85), "int4"),
        (Wanted(least_score=0.2), "int2"),
        (Wanted(least_score=0.2, among=condition_filter("codec=int8,codec=bf16")), "int8"),
        (Wanted(most_bytes=9_000, least_score=0.5), "int4"),
        (Wanted(most_bytes=2_019.5), "int2"),  # its mean, to the byte
    ],
)
def test_the_condition_to_use(results: list[ConditionResult], wanted: Wanted, codec: str) -> None:
    row = chosen(results, wanted).row
    assert row is not None and row["codec"] == codec


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            Wanted(most_bytes=2_019),
            "None of 4 has at most 2.02 kB: best is bf16 (16 kB, 90.0 %), smallest int2 (2.02 kB,"
            " 27.5 %).",
        ),
        (Wanted(least_score=0.91), "None of 4 has at least 91.0 %: best is bf16"),
        (Wanted(9_000, 0.86), "None of 4 has at least 86.0 % and at most 9 kB"),
        (
            Wanted(least_score=0.2, among=condition_filter("codec=klt*")),
            "Nothing to choose from: no complete condition is codec=klt*.",
        ),
    ],
)
def test_why_there_is_none(results: list[ConditionResult], wanted: Wanted, words: str) -> None:
    choice = chosen(results, wanted)
    assert choice.row is None and choice.notes[0].startswith(words)


def test_what_answers_nothing_is_never_chosen(
    results: list[ConditionResult], condition: Make
) -> None:
    mute = condition("-" * 40, codec="kvtc1", wire_bytes=0)
    records = [replace(r, unanswered="refused", wire_bytes=0) for r in mute.records]
    told = [*results, replace(mute, records=records)]
    choice = chosen(told, Wanted(most_bytes=100))
    assert choice.row is None and choice.notes[0].startswith("None of 4 has at most 100 B")
    assert choice.notes[-1] == "1 of 6 conditions left out: no question could be answered."


def test_what_speaks_against_it_is_said(results: list[ConditionResult], condition: Make) -> None:
    weak = chosen(results, Wanted(most_bytes=3_000))
    assert weak.over_receiver is not None
    assert weak.over_receiver.score == 0.25
    assert weak.over_receiver.difference == pytest.approx(1 / 40)
    assert weak.notes == (
        "It is not shown to be better than the receiver alone, which needs no byte.",
        "It answers B to 72.5 % of all.",
        "It is not shown that its content matters: another question's message may do as well.",
        "1 of 5 conditions left out: not all questions were asked.",
    )
    strong = chosen(results, Wanted(most_bytes=9_000))
    unasked = "Whether its content matters was not asked: run the control deranged."
    one_letter = "It answers A to 85.0 % of all."
    assert strong.notes == (one_letter, unasked, *weak.notes[3:])
    assert chosen(results, Wanted(least_score=0.85)).notes[0] == (
        "Its interval reaches below 85.0 %."
    )
    text = condition(right(34), wire_bytes=30, **TEXT)
    assert chosen([*results, text], Wanted(most_bytes=9_000)).notes[2] == (
        "No better than text 8 tokens (49.5 B, 85.0 %)."
    )
    # A text that was asked for is no rival, and one that is worse is not named.
    both = Wanted(most_bytes=9_000, among=condition_filter("system=*"))
    assert "No better" not in " ".join(chosen([*results, text], both).notes)
    worse = condition(right(33), wire_bytes=30, **TEXT)
    assert "No better" not in " ".join(chosen([*results, worse], Wanted(9_000)).notes)


@pytest.mark.parametrize("seed", range(20))
def test_against_a_search_by_hand(condition: Make, seed: int) -> None:
    chance = random.Random(seed)
    made = {
        f"int{bits}": (chance.choice([100, 200, 300]), chance.randint(5, 15))
        for bits in chance.sample(range(1, 9), 5)
    }
    results = [
        condition(right(count, 20), codec=codec, wire_bytes=sent, kv_bits=None)
        for codec, (sent, count) in made.items()
    ]
    most, least = chance.choice([115, 215, 400]), chance.randint(4, 16) / 20
    cheap = [(count, -sent) for sent, count in made.values() if sent + 9.5 <= most]
    row = chosen(results, Wanted(most_bytes=most)).row
    found = (round(20 * row["score"]), 9.5 - row["wire_bytes_mean"]) if row else None
    assert found == max(cheap, default=None)
    good = [(-sent, count) for sent, count in made.values() if count / 20 >= least]
    row = chosen(results, Wanted(least_score=least)).row
    found = (9.5 - row["wire_bytes_mean"], round(20 * row["score"])) if row else None
    assert found == max(good, default=None)


def test_text_and_json(results: list[ConditionResult]) -> None:
    wanted = Wanted(most_bytes=3_000)
    choices = choose(results, wanted)
    lines = render(choices, wanted).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[:2] == [
        "set, demo: accuracy, at most 3 kB",
        "  int2: 2.02 kB a question (at most 2.04 kB), 27.5 % [16.1, 42.8] of 40 questions",
    ]
    assert lines[2].startswith("  pairing gain +2.5 [")
    assert lines[3].startswith("  over the receiver alone +2.5 [")
    (told,) = json.loads(json.dumps(as_json(choices), allow_nan=False))
    assert told["name"] == told["condition"]["codec"] == "int2"
    assert told["condition"]["message_tokens"] is None and told["wire_bytes_max"] == 2039
    assert (told["score"], told["receiver_score"]) == (0.275, 0.25)
    (none,) = as_json(choose(results, Wanted(most_bytes=1)))
    assert none["name"] is none["score"] is none["over_receiver"] is None
