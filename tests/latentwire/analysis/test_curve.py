import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from latentwire.analysis.curve import COLUMNS, ConditionResult, build_curve, read_csv, write_csv
from latentwire.analysis.curve import outcomes as outcomes_of
from latentwire.analysis.letter_distribution import letter_prior_accuracy
from latentwire.analysis.noninferiority import (
    difference_interval,
    margin_test,
    required_sample_size,
)
from latentwire.analysis.stats import holm, mcnemar_p, paired_outcomes, wilson_interval
from latentwire.controls.registry import CONTROLS
from latentwire.errors import LatentWireError

Make = Callable[..., ConditionResult]


def only_row(*results: ConditionResult) -> dict[str, Any]:
    frame = build_curve(results)
    assert len(frame) == 1
    return {str(name): value for name, value in frame.iloc[0].to_dict().items()}


def test_a_row_holds_what_its_records_say(condition: Make) -> None:
    row = only_row(condition("AABBB-", total=10, wire_bytes=500))
    assert (row["examples"], row["examples_total"], row["complete"]) == (6, 10, False)
    assert (row["correct"], row["accuracy"]) == (2, 2 / 6)
    assert (row["accuracy_low"], row["accuracy_high"]) == wilson_interval(2, 6)
    # The packets are of 500 to 505 bytes.
    assert (row["wire_bytes_min"], row["wire_bytes_mean"], row["wire_bytes_max"]) == (
        500,
        502.5,
        505,
    )
    assert (row["top_letter"], row["top_letter_share"]) == ("B", 0.5)
    assert row["unparsed_share"] == 1 / 6
    assert (row["codec"], row["kv_bits"], row["keep_ratio"]) == ("int8", 8, 1.0)
    for name in ("deranged_accuracy", "pairing_gain", "pairing_gain_low", "zero_accuracy"):
        assert math.isnan(row[name])


def on_passages(result: ConditionResult, passages: str) -> ConditionResult:
    """The same with a passage, named by a letter, for each question."""
    records = zip(result.records, passages, strict=True)
    return replace(
        result, records=tuple(replace(record, cluster=passage) for record, passage in records)
    )


def test_bytes_are_counted_for_each_message_and_for_each_question(condition: Make) -> None:
    alone = only_row(condition("AAB", wire_bytes=500))
    assert (alone["messages"], alone["wire_bytes_per_question"]) == (3, alone["wire_bytes_mean"])
    # Packets of 600, 601, ... bytes: those of one passage are counted once, by their mean.
    result = on_passages(condition("AABBA", wire_bytes=600), "xxxyx")
    row = only_row(result)
    assert row["messages"] == 2 and row["wire_bytes_mean"] == 602
    assert row["wire_bytes_per_question"] == ((600 + 601 + 602 + 604) / 4 + 603) / 5
    # In two chunks, of which one passage is in both, nothing else comes out.
    parts = [
        replace(result, records=result.records[:2]),
        replace(result, records=result.records[2:]),
    ]
    assert only_row(*parts)["wire_bytes_per_question"] == row["wire_bytes_per_question"]
    refused = replace(result.records[3], unanswered="too long", wire_bytes=0)
    left = replace(result, records=(*result.records[:3], refused, result.records[4]))
    row = only_row(left)
    assert row["messages"] == 1 and row["wire_bytes_per_question"] == 601.75 / 4
    nothing = only_row(on_passages(condition("AABB", system="receiver"), "xxyy"))
    assert (nothing["messages"], nothing["wire_bytes_per_question"]) == (0, 0)


def test_equally_frequent_letters_go_by_the_alphabet(condition: Make) -> None:
    assert only_row(condition("DCDC"))["top_letter"] == "C"
    assert pd.isna(only_row(condition("--"))["top_letter"])


def test_donors_of_another_length_are_counted_and_not_paired(condition: Make) -> None:
    matched = condition("AAAAB", total=5)
    records = list(condition("ABBAA", control="deranged", donors="BBBBB", total=5).records)
    records[0] = replace(records[0], donor_tokens=99)
    # Not said, as in records of earlier versions; told by the donor's own answer.
    own = list(matched.records)
    own[4] = replace(own[4], prompt_tokens=101)
    records[1] = replace(records[1], donor_id="set:4")
    records[2] = replace(
        records[2], donor_id="set:4", elements=7
    )  # of a message that kept its length
    records[3] = replace(records[3], donor_id="set:2")
    matched = replace(matched, records=tuple(own))
    deranged = condition("ABBAA", control="deranged", total=5)
    row = only_row(matched, replace(deranged, records=tuple(records)))
    assert (row["deranged_examples"], row["deranged_other_length"]) == (5, 2)
    assert (row["pairing_examples"], row["pairing_gain"]) == (3, 0.0)


def test_pairing_gain_is_over_the_common_questions(condition: Make) -> None:
    matched = condition("AAAAB", total=8)
    deranged = condition("ABBCCAA", control="deranged", first=1, donors="BBBCDAA", total=8)
    row = only_row(matched, deranged)
    assert row["accuracy"] == 0.8
    assert row["deranged_accuracy"] == 3 / 7
    # Questions 1 to 4: AAAB of their own cache, ABBC of another's.
    assert row["pairing_examples"] == 4
    assert row["pairing_gain"] == 0.5
    pair = outcomes(matched), outcomes(deranged)
    expected = difference_interval(paired_outcomes(*pair))
    assert (row["pairing_gain_low"], row["pairing_gain_high"]) == expected
    assert row["pairing_p"] == row["pairing_p_holm"] == mcnemar_p(paired_outcomes(*pair))
    # ABBCCAA against the donors' BBBCDAA.
    assert row["follows_donor_share"] == 5 / 7


def outcomes(result: ConditionResult) -> dict[str, bool]:
    return {record.example_id: record.correct for record in result.records}


def test_points_are_compared_with_16_bits(condition: Make) -> None:
    letters = {
        ("bf16", 1.0): "AAAAAABBBB",
        ("int8", 1.0): "AAAAAABBBA",
        ("int8", 0.5): "ABBBBBAABB",
    }
    points = {
        key: condition(text, codec=key[0], keep_ratio=key[1]) for key, text in letters.items()
    }
    others = [condition("ABABABABAB", system="receiver"), condition("A" * 10, source="published")]
    frame = build_curve([*points.values(), *others], margin_points=30)
    reference = outcomes(points["bf16", 1.0])
    rows = frame[frame["bf16_examples"] > 0]
    # Neither the reference itself, nor a model alone, nor another source has anything to compare.
    assert list(zip(rows["codec"], rows["keep_ratio"], strict=True)) == [("int8", 1), ("int8", 0.5)]
    pairs = [(outcomes(points["int8", ratio]), reference) for ratio in (1.0, 0.5)]
    counted = [paired_outcomes(*pair) for pair in pairs]
    assert rows["bf16_differing"].tolist() == [1, 7]
    assert rows["bf16_difference"].tolist() == [each.difference for each in counted] == [0.1, -0.3]
    intervals = [difference_interval(each) for each in counted]
    assert rows["bf16_difference_low"].tolist() == [interval.low for interval in intervals]
    assert rows["bf16_difference_high"].tolist() == [interval.high for interval in intervals]
    p_values = [mcnemar_p(each) for each in counted]
    assert rows["bf16_p"].tolist() == p_values
    assert rows["bf16_p_holm"].tolist() == holm(p_values)
    tests = [margin_test(each, "non_inferior", 0.3).p for each in counted]
    assert rows["non_inferior_p"].tolist() == tests
    assert rows["non_inferior_p_holm"].tolist() == holm(tests)
    assert rows["non_inferior"].tolist() == ["supported", "undecided"]
    needed = [required_sample_size(each, "non_inferior", 0.3) for each in counted]
    assert rows["questions_needed"].tolist() == needed
    assert set(frame["margin_points"]) == {30}
    rest = frame[frame["bf16_examples"] == 0]
    empty = ("bf16_difference", "bf16_p", "non_inferior_p_holm", "non_inferior", "questions_needed")
    assert rest[list(empty)].isna().all(axis=None)


def test_p_values_are_corrected_within_a_dataset(condition: Make) -> None:
    def points(dataset: str) -> list[ConditionResult]:
        return [
            condition(text, codec=codec, control=control, dataset=dataset)
            for codec, own in (("bf16", "A" * 9 + "B"), ("int8", "A" * 8 + "BB"))
            for control, text in (("matched", own), ("deranged", "AA" + "B" * 8))
        ]

    one = build_curve(points("set"))
    assert one["pairing_p"].tolist() == [2 / 2**7, 2 / 2**6]
    assert one["pairing_p_holm"].tolist() == [4 / 2**7, 4 / 2**7]
    both = build_curve(points("set") + points("a set"))
    assert both["pairing_p_holm"].tolist() == one["pairing_p_holm"].tolist() * 2


def test_answers_of_every_control_are_counted(condition: Make) -> None:
    row = only_row(
        condition("AAAAAAABC-", answers="ABCDABCDAB"),
        condition("BBBBBBBABA", control="deranged"),
        condition("DCDCDCDC--", control="zero"),
    )
    assert [row[f"share_{letter}"] for letter in "ABCD"] == [0.7, 0.1, 0.1, 0]
    assert (row["degenerate"], row["output_tokens_mean"]) == (True, 5)
    assert (row["deranged_top_letter"], row["deranged_top_letter_share"]) == ("B", 0.8)
    assert row["deranged_degenerate"] is True
    assert (row["zero_top_letter"], row["zero_degenerate"]) == ("C", False)
    keys = condition("A" * 10, answers="ABCDABCDAB").records
    assert row["letter_prior_accuracy"] == letter_prior_accuracy(keys)
    assert outcomes_of({"q": keys[0]}) == {"q": True}


def test_controls_of_another_point_do_not_count(condition: Make) -> None:
    frame = build_curve(
        [
            condition("AAB"),
            condition("ABB", control="deranged", codec="int4"),
            condition("BBB", control="zero"),
        ]
    )
    int8, int4 = frame.to_dict(orient="records")
    assert (int8["codec"], int8["zero_accuracy"]) == ("int8", 0)
    assert math.isnan(int8["pairing_gain"])
    assert int8["pairing_examples"] == 0
    # A point of which only the control has run is there, without an accuracy.
    assert (int4["examples"], int4["deranged_accuracy"]) == (0, 1 / 3)
    assert math.isnan(int4["accuracy"])
    assert pd.isna(int4["wire_bytes_min"])


def test_overlapping_parts_count_each_example_once(condition: Make) -> None:
    parts = [condition("AAB", total=5), condition("ABB", first=1, total=5)]
    whole = condition("AABB", total=5)
    assert only_row(*parts) == pytest.approx(only_row(whole), nan_ok=True)


def test_conflicting_outcomes_are_named(condition: Make) -> None:
    with pytest.raises(LatentWireError, match=r"demo, set, local, c2c int8.*set:1.*two outcomes"):
        build_curve([condition("AAB"), condition("ABB")])
    matched = condition("AAB")
    reworded = replace(matched, records=tuple(replace(r, output="?") for r in matched.records))
    assert len(build_curve([matched, reworded])) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples_total": 9}, "disagree on examples_total: \\[4, 9\\]"),
        ({"kv_bits": 7}, "disagree on kv_bits: \\[7, 8\\]"),
    ],
)
def test_parts_that_disagree_are_refused(
    condition: Make, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(LatentWireError, match=message):
        build_curve([condition("AAAA"), condition("AAAA", **change)])


def test_more_examples_than_the_dataset_has_are_refused(condition: Make) -> None:
    with pytest.raises(LatentWireError, match="3 examples, but its dataset has 2"):
        build_curve([condition("AAA", total=2)])


@pytest.mark.parametrize(
    "change",
    [
        {"system": "teacher", "control": "none"},
        {"control": "shuffled"},
        {"control": "none"},
        {"source": "elsewhere"},
        {"codec": "none"},
        {"keep_ratio": None},
        {"system": "receiver", "control": "matched", "codec": "none"},
        {"system": "receiver", "control": "none", "codec": "int8"},
        {"message_tokens": 8},
        {"system": "text", "codec": "utf8", "keep_ratio": None, "order": None},
        {"system": "letter", "codec": "utf8", "keep_ratio": None, "order": None},
        {"system": "letter", "codec": "none", "control": "zero"},
    ],
)
def test_impossible_conditions_are_refused(condition: Make, change: dict[str, Any]) -> None:
    with pytest.raises(LatentWireError):
        replace(condition("A"), **change)


def some_results(condition: Make) -> list[ConditionResult]:
    results = [condition("AB-A", system="receiver"), condition("AAB-", system="sharer")]
    for codec in ("int4", "bf16", "int8"):
        results.append(condition("AAB-", codec=codec, control="deranged", donors="ABCD"))
        for keep_ratio, order in ((0.1, "back"), (1 / 3, "front"), (1.0, "front"), (0.1, "front")):
            results.append(condition("ABBA", codec=codec, keep_ratio=keep_ratio, order=order))
    results.append(condition("ABBA", source="published"))
    results.append(condition("ABBA", dataset="a set"))
    return results


def rivals(condition: Make) -> list[ConditionResult]:
    text: dict[str, Any] = {"system": "text", "codec": "utf8"}
    return [
        condition("ABAA", **text, message_tokens=32, wire_bytes=90),
        condition("ABBA", **text, message_tokens=8, wire_bytes=30),
        condition("BBBB", **text, message_tokens=8, control="deranged", donors="BBBB"),
        condition("AAAB", system="letter", wire_bytes=1),
        condition("AAAA", system="calibrated"),
    ]


def test_what_competes_with_caches_changes_nothing_of_theirs(condition: Make) -> None:
    caches = build_curve(some_results(condition))
    frame = build_curve([*some_results(condition), *rivals(condition)])
    own = frame[frame["system"].isin(["receiver", "sharer", "c2c"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, caches, check_exact=True)
    rest = frame[~frame["system"].isin(["receiver", "sharer", "c2c"])]
    assert rest["system"].tolist() == ["calibrated", "letter", "text", "text"]
    assert rest["message_tokens"].astype(object).where(rest["message_tokens"].notna(), None).tolist(
    ) == [None, None, 8, 32]  # fmt: skip
    short = rest.iloc[2]
    assert (short["accuracy"], short["deranged_accuracy"], short["pairing_gain"]) == (0.5, 0, 0.5)
    assert short["wire_bytes_mean"] == 31.5 and pd.isna(short["bf16_difference"])


def test_rows_are_in_one_order_whatever_the_order_of_results(condition: Make) -> None:
    results = some_results(condition)
    frame = build_curve(results)
    keys = frame[["dataset", "source", "system", "codec", "keep_ratio", "order"]].astype(object)
    rows = keys.where(keys.notna(), None).values.tolist()
    assert rows[:4] == [
        ["a set", "local", "c2c", "int8", 1.0, "front"],
        ["set", "local", "receiver", "none", None, None],
        ["set", "local", "sharer", "none", None, None],
        ["set", "local", "c2c", "bf16", 1.0, "front"],
    ]
    assert rows[4:7] == [
        ["set", "local", "c2c", "bf16", 1 / 3, "front"],
        ["set", "local", "c2c", "bf16", 0.1, "front"],
        ["set", "local", "c2c", "bf16", 0.1, "back"],
    ]
    assert [row[3] for row in rows[7:15]] == ["int8"] * 4 + ["int4"] * 4
    assert rows[15] == ["set", "published", "c2c", "int8", 1.0, "front"]
    for seed in range(5):
        random.Random(seed).shuffle(results)
        pd.testing.assert_frame_equal(build_curve(results), frame, check_exact=True)


def test_csv_comes_back_exactly(condition: Make, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "budget_curve.csv"
    for frame in (build_curve(some_results(condition)), build_curve([])):
        write_csv(frame, path)
        pd.testing.assert_frame_equal(read_csv(path), frame, check_exact=True)
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == COLUMNS
    assert [file.name for file in path.parent.iterdir()] == ["budget_curve.csv"]


def test_other_files_are_refused(condition: Make, tmp_path: Path) -> None:
    path = tmp_path / "budget_curve.csv"
    with pytest.raises(LatentWireError, match="budget_curve"):
        read_csv(path)
    path.write_text("pair,dataset\nx,y\n")
    with pytest.raises(LatentWireError, match="accuracy"):
        read_csv(path)
    write_csv(build_curve([condition("AB")]), path)
    path.write_text(path.read_text().replace("True", "perhaps"))
    with pytest.raises(LatentWireError, match=r"line 2: .*complete is 'perhaps'"):
        read_csv(path)
    path.write_text(path.read_text() + "one cell\n")
    path.write_text(path.read_text().replace("perhaps", "True"))
    with pytest.raises(LatentWireError, match="line 3"):
        read_csv(path)


def test_every_column_is_documented_in_order() -> None:
    text = (Path(__file__).parents[3] / "docs" / "columns.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    named = [name for line in lines for name in line.split("|")[1].replace("`", "").split(",")]
    assert [name.strip() for name in named] == as_documented(COLUMNS)


def as_documented(columns: Iterable[str]) -> list[str]:
    """Without those of further controls, which are as `zero` has them."""
    further = tuple(f"{name}_" for name in CONTROLS if name not in ("matched", "deranged", "zero"))
    return [name for name in columns if not name.startswith(further)]


def test_the_file_has_the_documented_columns(condition: Make, tmp_path: Path) -> None:
    write_csv(build_curve([condition("AB")]), tmp_path / "curve.csv")
    header = (tmp_path / "curve.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    text = (Path(__file__).parents[3] / "docs" / "columns.md").read_text(encoding="utf-8")
    assert as_documented(header) == re.findall(
        r"`(\w+)`", " ".join(re.findall(r"(?m)^\| (`.*?) \|", text))
    )


def test_what_is_not_complete_changes_no_row_of_the_others(condition: Make) -> None:
    """A few questions under other selectors, as `main` asks them beside whole conditions."""
    whole = [
        condition(letters * 10, codec=codec, keep_ratio=ratio, control=control, total=40)
        for codec, ratio, letters in (
            ("bf16", 1.0, "AAAA"),
            ("int8", 1.0, "AAAB"),
            ("int8", 0.25, "AABB"),
        )
        for control in ("matched", "deranged")
    ]
    whole += [condition("AB" * 20, system="receiver", total=40)]
    few = [
        condition("AABA" * 3, order=order, keep_ratio=0.25, control=control, total=40)
        for order in ("vnorm", "snapkv")
        for control in ("matched", "deranged")
    ]
    alone, both = build_curve(whole), build_curve([*whole, *few])
    rest = both[~both["order"].isin(["vnorm", "snapkv"])].reset_index(drop=True)
    assert len(both) == len(alone) + 2
    pd.testing.assert_frame_equal(rest, alone.reset_index(drop=True))
