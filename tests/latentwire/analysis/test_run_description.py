"""What the page of a milestone's run says, against made-up answers."""

from collections.abc import Callable

import pandas as pd
import pytest

from latentwire.analysis.codec_summary import codec_headline, codec_note
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.markdown import MOST_CHARACTERS
from latentwire.analysis.run_description import description, headline
from latentwire.analysis.safe_names import metric_name

Make = Callable[..., ConditionResult]


@pytest.fixture
def frame(condition: Make) -> pd.DataFrame:
    """16 bits: 40 of 40 right, 0 of 40 deranged; int8 as good; int2 a quarter; receiver half."""
    return build_curve(
        [
            condition("A" * 20 + "B" * 20, system="receiver"),
            condition("A" * 40, codec="bf16", wire_bytes=2000),
            condition("B" * 40, codec="bf16", wire_bytes=2000, control="deranged"),
            condition("A" * 40, codec="int8"),
            condition("A" * 10 + "B" * 30, codec="int2", kv_bits=2, wire_bytes=200),
        ]
    )


def test_the_headline_is_the_curves(frame: pd.DataFrame) -> None:
    assert headline(frame) == {
        "accuracy": 1.0,
        "wire_bytes_mean": frame.loc[frame["codec"] == "int8", "wire_bytes_mean"].item(),
        "set/receiver_accuracy": 0.5,
        "set/bf16_accuracy": 1.0,
        "set/bf16_pairing_gain": 1.0,
        "set/bf16_difference_worst": -0.75,
        "set/bf16_difference_best": 0.0,
        "set/examples": 40.0,
        "set/non_inferior_supported": 0.0,
        "set/non_inferior_refuted": 1.0,
        "set/non_inferior_undecided": 1.0,
    }


def test_the_best_cache_is_told_of_whole_curves_of_one_pair_alone(condition: Make) -> None:
    def best(*conditions: ConditionResult) -> list[float | None]:
        found = headline(build_curve(list(conditions)))
        return [found.get("accuracy"), found.get("wire_bytes_mean")]

    good, half = condition("AA", wire_bytes=9), condition("AB", dataset="other", wire_bytes=4)
    assert best(good, half) == [0.75, pytest.approx((_bytes(good) + _bytes(half)) / 2)]
    assert best(good, condition("AA", pair="another")) == [None, None]
    assert best(good, condition("AA", dataset="other", total=9)) == [None, None]
    assert best(condition("AA", system="receiver")) == [None, None]


def _bytes(part: ConditionResult) -> float:
    return sum(record.wire_bytes for record in part.records) / len(part.records)


def test_the_fewest_bytes_without_loss_are_of_a_supported_row(frame: pd.DataFrame) -> None:
    frame.loc[frame["codec"] == "int8", "non_inferior"] = "supported"
    assert headline(frame)["set/non_inferior_bytes_least"] == pytest.approx(1019.5)


def test_pairs_and_systems_that_nobody_knew_are_named(condition: Make) -> None:
    frame = build_curve([condition("AB", codec="bf16"), condition("AA", codec="bf16", pair="a:b")])
    frame.loc[1, ["system", "codec", "message_tokens"]] = ["text", "utf8+zstd", 32]
    found = headline(frame)
    # Pairs are in alphabetical order: a:b, then demo.
    assert found["a_b/set/bf16_accuracy"] == 1
    assert found["demo/set/text_32_tokens__zstd_accuracy"] == 0.5
    assert all("bf16_pairing_gain" not in name for name in found)


def test_the_note_says_what_was_found(frame: pd.DataFrame) -> None:
    text = description("m2", frame, frame, ["get-artifact?run_uuid=1&path=pictures/x.png"])
    assert "What does precision cost?" in text
    assert "receiver 50.0 [35.2, 64.8]; bf16 100.0" in text
    assert "differs from zero in 1 of 1 conditions (1 above, 0 below" in text
    assert "0 supported, 1 refuted, 1 undecided (of 2" in text
    assert "the lowest difference is -75.0 [" in text and "points (int2)" in text
    assert "![x.png](get-artifact?run_uuid=1&path=pictures/x.png)" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {9}
    assert len(lines) == 2 + len(frame)
    assert any(line.startswith("| int2 | 1 | front | 40 | 25.0! [") for line in lines)


def test_what_was_not_measured_is_not_said(condition: Make) -> None:
    frame = build_curve([condition("AB", codec="int8")])
    text = description("m2", frame, frame)
    for word in ("Accuracy in", "pairing gain differs", "Losing", "marked", "!["):
        assert word not in text
    assert description("m2", frame.iloc[:0], frame.iloc[:0]) == "No finished conditions yet."


def test_a_note_fits_in_what_mlflow_keeps(condition: Make) -> None:
    frame = build_curve([condition("AB", codec=f"int8_{number}") for number in range(200)])
    text = description("m4", frame, frame, ["get-artifact?run_uuid=1&path=pictures/x.png"])
    assert MOST_CHARACTERS - 200 < len(text) <= MOST_CHARACTERS
    assert "The rest: table.txt" in text and "![x.png]" in text


def test_the_codecs_note_names_best_and_worst() -> None:
    table = pd.DataFrame(
        [
            {"dataset": "set", "codec": "int8", "kl_nats_mean": 0.001, "key_error_mean": 0.01},
            {"dataset": "set", "codec": "int2", "kl_nats_mean": 2.5, "key_error_mean": 0.6},
        ]
    ).assign(value_error_mean=[0.02, 0.4], same_token_share=[1.0, 0.25])
    assert codec_headline(table) == {
        "set/codecs": 2,
        "set/key_error_worst": 0.6,
        "set/value_error_worst": 0.4,
        "set/kl_nats_worst": 2.5,
        "set/same_token_share_least": 0.25,
    }
    text = codec_note(table, {"kl_nats_mean": "KL (nats)"})
    assert "least with int8 (0.001 nats) and largest with int2 (2.5 nats)" in text
    assert "| set | int2 | 2.5 |" in text
    sent = codec_note(table.assign(wire_bytes_mean=7160.0), {"wire_bytes_mean": "bytes"})
    assert "| set | int2 | 7.16 kB |" in sent


def test_metric_names_are_mlflows() -> None:
    assert metric_name("a|b/c é(d)") == "a_b_c __d_"
