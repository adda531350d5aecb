from pathlib import Path

import pandas as pd
import pytest

from latentwire.analysis.curve import build_curve
from latentwire.analysis.published import (
    COLUMNS,
    PAIR,
    read_published,
    wire_bytes,
)
from latentwire.errors import LatentWireError
from latentwire.parameters import PUBLISHED_FILE

HEADER = ",".join(COLUMNS)
GOOD = "M0,bf16,1.0,front,arc_c,1171,C,B,0,142,14,1095.9"
OTHER = "M0,bf16,1.0,front,arc_c,3,D,D,1,101,7,346.5"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    (folder / PUBLISHED_FILE).write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return folder


def test_accuracies_are_the_published_ones(shared_dir: Path) -> None:
    reference = shared_dir / "reference"
    conditions = read_published(reference)
    assert len(conditions) == 11 * 2  # int8 in full was run three times, and is one of them
    table = pd.read_csv(reference / "published_results.csv")
    table = table[
        (table["source"] == "latentwire-2026-02") & table["milestone"].isin(["M0", "M2", "M3"])
    ]
    # The study calls its 16-bit run fp16 in one file and bf16 in the other; it was bfloat16.
    table["scheme"] = table["scheme"].replace("fp16", "bf16")
    names = ["milestone", "scheme", "cache_proportion", "order_mode", "dataset"]
    expected = table.set_index(names)[["accuracy", "n"]]
    assert len(expected) == 13 * 2
    for item in conditions:
        result = item.result
        key = (item.milestone, result.codec, result.keep_ratio, result.order, result.dataset)
        published = expected.loc[key]
        assert len(result.records) == result.examples_total == published["n"]
        accuracy = sum(record.correct for record in result.records) / len(result.records)
        assert accuracy == pytest.approx(published["accuracy"], abs=0.0005 + 1e-9)


def test_the_curve_of_the_published_answers(shared_dir: Path) -> None:
    conditions = read_published(shared_dir / "reference")
    frame = build_curve([item.result for item in conditions])
    # int8 in full was run by M2, and by M3 for both orders, and gave the same answers.
    assert len(frame) == 11 * 2
    whole = frame[(frame["keep_ratio"] == 1) & (frame["codec"] == "int8")]
    assert whole["order"].tolist() == ["front"] * 2
    # So each family has ten conditions beside the reference: the smallest p counts ten times.
    for _, rows in frame[frame["bf16_examples"] > 0].groupby("dataset"):
        assert len(rows) == 10
        assert rows["bf16_p_holm"].min() == pytest.approx(10 * rows["bf16_p"].min())
    assert frame["complete"].all()
    assert set(frame["pair"]) == {PAIR}
    assert set(frame["source"]) == {"published"}
    full = frame[(frame["keep_ratio"] == 1) & (frame["codec"] == "bf16")].set_index("dataset")
    # Mean prompts of 141.317 and 117.926 tokens, of which the last is not sent.
    payload = full["wire_bytes_mean"] / 12_288
    assert payload["arc_c"] == pytest.approx(140.317391, rel=1e-3)
    assert payload["openbookqa"] == pytest.approx(116.926, rel=1e-3)
    by_codec = frame[(frame["dataset"] == "arc_c") & (frame["keep_ratio"] == 1)]
    means = by_codec.drop_duplicates("codec").set_index("codec")["wire_bytes_mean"]
    assert means["bf16"] / means["int8"] == pytest.approx(2, rel=1e-3)
    assert means["bf16"] / means["int4"] == pytest.approx(4, rel=2e-3)


def test_the_16_bit_row_is_m0s_only_one(shared_dir: Path) -> None:
    conditions = read_published(shared_dir / "reference")
    m0 = [item.result for item in conditions if item.milestone == "M0"]
    assert {(r.codec, r.kv_bits, r.keep_ratio) for r in m0} == {("bf16", 16, 1.0)}
    assert {r.dataset for r in m0} == {"arc_c", "openbookqa"}
    others = [item.result.kv_bits for item in conditions if item.milestone != "M0"]
    assert set(others) == {8, 4}


@pytest.mark.parametrize(
    ("prompt_tokens", "keep_ratio", "kept"),
    [(101, 1.0, 100), (101, 0.1, 10), (110, 0.1, 10), (142, 0.75, 105), (142, 0.25, 35)],
)
def test_bytes_are_of_the_sharers_cache(prompt_tokens: int, keep_ratio: float, kept: int) -> None:
    # A float32 scale for each of 24 layers x (K, V) x 2 heads: 384 bytes.
    payloads = {"bf16": 12_288 * kept, "int8": 6_144 * kept + 384, "int4": 3_072 * kept + 384}
    for codec, payload in payloads.items():
        for order in ("front", "back"):
            header = wire_bytes(codec, prompt_tokens, keep_ratio, order) - payload
            assert 30 <= header <= 40


def test_nothing_kept_is_nothing_sent() -> None:
    assert wire_bytes("int8", 9, 0.1, "back") == 0


def test_a_record_keeps_what_the_line_says(tmp_path: Path) -> None:
    unparsed = "M3,int8,0.5,back,openbookqa,7,D,,0,121,2,20.5"
    first, second = read_published(write(tmp_path, GOOD, OTHER, unparsed))
    assert (first.milestone, first.result.codec, first.result.dataset) == ("M0", "bf16", "arc_c")
    assert first.result.seconds == pytest.approx(1.4424)
    wrong, right = first.result.records
    assert (wrong.example_id, wrong.index, wrong.correct) == ("arc_c:1171", 1171, False)
    assert (wrong.answer, wrong.predicted) == ("C", "B")
    assert (right.correct, right.prompt_tokens, right.generated_tokens) == (True, 101, 7)
    assert right.wire_bytes == wire_bytes("bf16", 101, 1.0, "front")
    assert second.milestone == "M3"
    assert second.result.records[0].predicted is None
    assert second.result.records[0].wire_bytes == wire_bytes("int8", 121, 0.5, "back")
    assert (second.result.order, second.result.keep_ratio) == ("back", 0.5)


def test_a_condition_that_was_run_three_times_counts_once(tmp_path: Path) -> None:
    runs = [
        OTHER.replace("M0,bf16,1.0,front", f"{milestone},int8,1.0,{order}")
        for milestone, order in (("M2", "front"), ("M3", "front"), ("M3", "back"))
    ]
    (only,) = read_published(write(tmp_path, *runs))
    assert (only.milestone, only.result.order, len(only.result.records)) == ("M2", "front", 1)
    # Answers that only a later run has are taken from it; other answers are no run of the same.
    (only,) = read_published(write(tmp_path, *runs, runs[2].replace("arc_c,3,", "arc_c,4,")))
    assert [record.index for record in only.result.records] == [3, 4]
    changed = runs[2].replace("D,D,1", "D,,0")
    with pytest.raises(
        LatentWireError, match="line 4: M3 answers nothing, and M2 D in line 2, to one question"
    ):
        read_published(write(tmp_path, *runs[:2], changed))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD, "same condition and question as line 2"),
        (GOOD.replace("M0", "M2").replace("142", "143"), r"\('C', 143\), but \('C', 142\)"),
        (OTHER + ",1", "13 fields, not 12"),
        (OTHER.replace("M0", "zero"), "milestone is 'zero'"),
        (OTHER.replace("bf16", "int5"), "scheme is 'int5'"),
        (OTHER.replace("1.0", "1.5"), "cache_proportion is '1.5'"),
        (OTHER.replace("1.0", "nan"), "cache_proportion is 'nan'"),
        (OTHER.replace("front", "middle"), "order_mode is 'middle'"),
        (OTHER.replace("arc_c", "mmlu"), "dataset is 'mmlu'"),
        (OTHER.replace("arc_c,3,", "arc_c,1172,"), "question_index is '1172'.* to 1171"),
        (OTHER.replace("arc_c,3,", "openbookqa,500,"), "question_index is '500'.* to 499"),
        (OTHER.replace("D,D", "E,D"), "answer is 'E'"),
        (OTHER.replace("D,D", "D,d"), "predicted is 'd'"),
        (OTHER.replace("D,1", "D,True"), "correct is 'True'"),
        (OTHER.replace("D,1", "D,0"), "correct is 0, but the answer is 'D' and 'D'"),
        (OTHER.replace("101", "0"), "prompt_tokens is '0'"),
        (OTHER.replace("101", "1e2"), "prompt_tokens is '1e2'"),
        (OTHER.replace(",7,", ",-7,"), "generated_tokens is '-7'"),
        (OTHER.replace("346.5", "inf"), "latency_ms is 'inf'"),
        (OTHER.replace("346.5", "fast"), "latency_ms is 'fast'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(LatentWireError, match=rf"{PUBLISHED_FILE}, line 3: .*{message}"):
        read_published(write(tmp_path, GOOD, line))


def test_empty_lines_at_the_end_are_passed_over(tmp_path: Path) -> None:
    (found,) = read_published(write(tmp_path, GOOD, "", ""))
    assert len(found.result.records) == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=f"{PUBLISHED_FILE}: cannot be read"):
        read_published(tmp_path)
    with pytest.raises(LatentWireError, match="line 1: the columns are"):
        read_published(write(tmp_path, GOOD, header=HEADER.replace("answer", "key")))
    with pytest.raises(LatentWireError, match="holds no answers"):
        read_published(write(tmp_path))
    (tmp_path / PUBLISHED_FILE).write_bytes(f"{HEADER}\n".encode() + b"\xff\xfe\n")
    with pytest.raises(LatentWireError, match=PUBLISHED_FILE):
        read_published(tmp_path)
