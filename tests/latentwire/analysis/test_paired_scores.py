"""Scores between 0 and 1, and questions that share a passage: resampled, and consistent."""

import math
from dataclasses import replace
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from latentwire.analysis.bootstrap import mean_interval, sign_flip_p
from latentwire.analysis.break_even_bytes import break_even
from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.claims.claim import Claim
from latentwire.analysis.claims.judge import ClaimsReport, judge
from latentwire.analysis.claims.report import render
from latentwire.analysis.curve import ConditionResult, build_curve, read_csv, write_csv
from latentwire.analysis.latex import latex_table
from latentwire.analysis.noninferiority import (
    KINDS,
    difference_interval,
    equal_p,
    margin_test,
    required_sample_size,
)
from latentwire.analysis.paired_scores import PairedScores, compare
from latentwire.analysis.report.page_data import page_data
from latentwire.analysis.run_description import description, headline
from latentwire.analysis.stats import (
    ALPHA,
    PairedOutcomes,
    Score,
    clusters,
    is_plain,
    mcnemar_p,
    wilson_interval,
)
from latentwire.analysis.table import curve_table
from latentwire.evaluation.record import Record
from latentwire.spec.condition import Channel, Condition

Scores = dict[str, float]


def drawn(seed: int, questions: int, passages: int = 0, shift: float = 0.0) -> Scores:
    """Scores of questions; those of a passage are good or bad together."""
    generator = np.random.default_rng(seed)
    of_passage = np.random.default_rng(1).beta(0.4, 0.4, max(passages, 1))
    values = generator.beta(0.6, 0.5, questions)
    found = {}
    for n, value in enumerate(values):
        cluster = f"p{n % passages}" if passages else ""
        mixed = (value + 3 * of_passage[n % passages]) / 4 if passages else value
        found[f"q{n}"] = Score(min(1.0, max(0.0, mixed + shift)), cluster)
    return found


def test_questions_of_one_passage_say_nothing_of_others() -> None:
    """A study cut to its first questions may have one cluster alone: no test is significant."""
    first = {f"q{n}": Score(0.5 + n / 10, "the passage") for n in range(4)}
    second = {f"q{n}": Score(0.1, "the passage") for n in range(4)}
    found = compare(first, second)
    assert isinstance(found, PairedScores) and found.equal_p == 1
    interval = found.interval()
    assert interval.low <= 0 < found.difference <= interval.high
    assert sign_flip_p(np.array([0.0, 0.0, 3.0])) == 1


def test_right_and_wrong_alone_are_counted_as_ever() -> None:
    first = {"a": True, "b": False, "c": Score(1.0, "x"), "d": Score(0.0, "y")}
    second = {"a": False, "b": False, "c": True, "d": True, "e": Score(0.5)}
    found = compare(first, second)
    assert isinstance(found, PairedOutcomes)
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 1, 1, 1)
    assert equal_p(found) == mcnemar_p(found)
    assert not is_plain({"a": Score(0.5)})
    assert not is_plain({"a": Score(1, "x"), "b": Score(0, "x")})
    # A cluster and a question of one name are two.
    assert clusters({"a": Score(1, "b"), "b": True, "c": Score(0, "b")}) == [["a", "c"], ["b"]]


@pytest.mark.parametrize("passages", [0, 12])
@pytest.mark.parametrize("shift", [0.0, 0.04, 0.3])
def test_p_is_below_5_percent_exactly_where_the_interval_excludes(
    passages: int, shift: float
) -> None:
    found = compare(drawn(2, 60, passages, shift), drawn(3, 60, passages))
    assert isinstance(found, PairedScores)
    low, high = difference_interval(found)
    assert low < found.difference < high
    assert (equal_p(found) < ALPHA) == (not low <= 0 <= high)
    for margin, kind in product((0.001, 0.02, 0.05, 0.1, 0.4), KINDS):
        test = margin_test(found, kind, margin)
        boundary = {"superior": margin, "non_inferior": -margin}.get(kind)
        if boundary is not None:
            assert (test.p < ALPHA) == (not low <= boundary <= high), (margin, kind)
        assert test.verdict(test.p) in ("supported", "refuted", "undecided")


def test_equal_scores_leave_a_width() -> None:
    same = drawn(4, 1190)
    found = compare(same, same)
    low, high = difference_interval(found)
    assert equal_p(found) == 1 and -0.004 < low < 0 < high < 0.004
    none = {f"q{n}": Score(0.0, f"p{n % 240}") for n in range(1190)}
    low, high = mean_interval(none)
    assert low == 0 < high < 0.01
    assert all(math.isnan(end) for end in mean_interval({}))


def test_a_passage_is_one_observation() -> None:
    """Copies of each question prove no more, once it is known that they are copies."""
    once = drawn(5, 40)
    copies = {f"{name}-{n}": Score(value, name) for name, value in once.items() for n in range(5)}
    apart = {name: Score(value) for name, value in copies.items()}
    wide, clustered, narrow = (
        high - low for low, high in map(mean_interval, (once, copies, apart))
    )
    assert clustered == pytest.approx(wide, rel=0.1)
    assert narrow < 0.55 * wide


@pytest.mark.parametrize("clustered", [False, True])
def test_the_interval_holds_the_truth_as_often_as_it_says(clustered: bool) -> None:
    """60 samples of a known mean of a half."""
    held = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        values = np.repeat(generator.random(30), 4) if clustered else generator.random(120)
        names = (f"c{n // 4}" if clustered else "" for n in range(120))
        sample = {f"q{n}": Score(v, c) for n, (v, c) in enumerate(zip(values, names, strict=True))}
        low, high = mean_interval(sample)
        held += low <= 0.5 <= high
    assert held >= 51  # 57 are expected; fewer than 52 happen about once in 200 times


def test_the_permutation_test_is_exact_for_few_questions() -> None:
    differences = np.array([0.5, 0.25, -0.125, 1.0, 0.0])
    moved = differences[differences != 0]
    sums = [abs(np.dot(signs, moved)) for signs in product((1, -1), repeat=len(moved))]
    expected = np.mean([total >= abs(moved.sum()) for total in sums])
    assert sign_flip_p(differences) == pytest.approx(expected)
    assert sign_flip_p(np.zeros(3)) == 1
    assert sign_flip_p(np.array([0, 0.5, 0])) == 1  # one passage alone differs


def test_more_questions_are_needed_where_more_is_lost_than_allowed() -> None:
    found = compare(drawn(6, 200, shift=0.05), drawn(7, 200))
    needed = required_sample_size(found, "non_inferior", 0.02)
    assert needed is not None and needed > 200
    assert required_sample_size(found, "non_inferior", 0.1) < needed  # type: ignore[operator]
    worse = compare(drawn(7, 200), drawn(6, 200, shift=0.05))
    assert required_sample_size(worse, "superior", 0.0) is None


def result(control: str, codec: str, scores: list[float]) -> ConditionResult:
    sent = {"prompt_tokens": 5, "generated_tokens": 2, "wire_bytes": 700, "elements": 80}
    records = [
        Record(
            example_id=f"q{n}", index=n, answer="the Nile", predicted=f"Nile {n}", output="Nile",
            correct=score == 1, score=None if score in (0, 1) else score, cluster=f"p{n // 3}",
            **sent,  # type: ignore[arg-type]
        )
        for n, score in enumerate(scores)
    ]  # fmt: skip
    return ConditionResult(
        pair="tiny", dataset="xquad", source="local", system="c2c", codec=codec,
        kv_bits=None, keep_ratio=1.0, order="front", control=control,
        examples_total=len(scores), records=tuple(records), seconds=1.0,
    )  # fmt: skip


def test_a_curve_is_of_scores(tmp_path: Path) -> None:
    scores = {"bf16": [1, 0.5, 0.25] * 8, "int8": [1, 0.5, 0] * 8}
    results = [result("matched", codec, values) for codec, values in scores.items()]
    results += [result("deranged", "int8", [0.0, 0.25, 0] * 8)]
    frame = build_curve(results)
    row = frame.set_index("codec").loc["int8"]
    assert (row["correct"], row["accuracy"], row["score"]) == (8, 1 / 3, 0.5)
    assert (row["accuracy_low"], row["accuracy_high"]) == wilson_interval(8, 24)
    assert row["deranged_score"] == 0.25 / 3 and row["deranged_accuracy"] == 0
    assert row["pairing_gain"] == pytest.approx(1.25 / 3)
    assert row["pairing_p"] < 0.05 and row["pairing_gain_low"] > 0
    assert row["bf16_difference"] == pytest.approx(-0.25 / 3) and row["bf16_differing"] == 8
    assert row["score_low"] < 0.5 < row["score_high"]
    write_csv(frame, tmp_path / "curve.csv")
    assert read_csv(tmp_path / "curve.csv").equals(frame)
    later = [name for name in frame.columns if "score" in name or name == "metric"]
    old = frame.drop(columns=later).to_csv(index=False)
    (tmp_path / "curve.csv").write_text(old)
    read = read_csv(tmp_path / "curve.csv")
    assert read["score"].equals(read["accuracy"]) and set(read["metric"]) == {"accuracy"}
    assert read["deranged_score"].equals(read["deranged_accuracy"])


def test_tables_and_pictures_name_the_metric() -> None:
    scores = {"bf16": [1, 0.5, 0.25] * 8, "int8": [1, 0.5, 0] * 8}
    results = [result("matched", codec, values) for codec, values in scores.items()]
    results += [result("deranged", "int8", [0.0, 0.25, 0] * 8)]
    frame = build_curve(results)
    assert set(frame["metric"]) == {"F1"} and frame["letter_prior_accuracy"].isna().all()
    console = Console(width=100, file=StringIO())
    console.print(curve_table(frame))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "F1 %" in printed and "accuracy" not in printed and "50.0 [" in printed
    latex = latex_table(frame)
    assert r"F1 (\%)" in latex and "F1 and pairing gain (bootstrap intervals)" in latex
    figure = draw_budget_curve(frame, "xquad", "tiny")
    assert figure.axes[0].get_ylabel() == "F1 (%)"
    assert "(F1: bootstrap)" in figure.get_supxlabel()
    assert headline(frame)["xquad/bf16_F1"] == pytest.approx(1.75 / 3)
    said = description("m2", frame, frame)
    assert "F1 in %, with 95 % intervals: bf16 58.3" in said and "| F1 % |" in said
    assert "permutation test, Holm-corrected" in said
    page = page_data(frame, results, {}, [], [], [], "sqlite:///x", "today")
    assert [(p["metric"], p["score"]) for p in page["points"]] == [
        ("F1", pytest.approx(1.75 / 3)), ("F1", 0.5)
    ]  # fmt: skip
    sides = [Condition("c2c", Channel("int8"), name) for name in ("matched", "deranged")]
    (judged,) = judge([Claim("Its own is better.", "xquad", "superior", 0.0, *sides)], results)
    assert judged.verdict == "supported"
    assert judged.outcomes.difference == pytest.approx(1.25 / 3)
    words = render([ClaimsReport("own.yaml", "tiny", (judged,))], "local")
    assert "xquad, F1: c2c int8 full matched - " in words and "only the first better 16," in words


def test_scores_decide_from_how_many_bytes_caches_beat_text() -> None:
    text = {f"q{n}": Score(0.5, f"p{n // 3}") for n in range(24)}
    caches = {f"q{n}": Score(0.5 + 0.1 * (n % 3), f"p{n // 3}") for n in range(24)}
    found = break_even([(900.0, caches), (90.0, text)], [(100.0, text)], 500, 1)
    assert found[:2] == (24, 900.0)


def test_an_answer_of_two_scores_is_two_outcomes() -> None:
    one = result("matched", "int8", [0.5, 1])
    other = replace(one, records=(replace(one.records[0], score=0.25), one.records[1]))
    with pytest.raises(Exception, match="two outcomes"):
        build_curve([one, other])
    assert pd.notna(build_curve([one, one])["score"]).all()
