"""`latentwire compare` and `latentwire nearest` against a tracking store of made-up answers."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from studies import write_condition
from tests_support import empty_store

from latentwire.analysis.curve import ConditionResult
from latentwire.cli import main
from latentwire.tracking.results_reader import chunks_from, newest_results
from latentwire.tracking.store import open_store

SWEEPS = {"front": (20, 24, 36), "back": (30, 40, 42)}
KEPT = (0.1, 0.3, 0.6)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, condition: Callable[..., ConditionResult]
) -> Path:
    """A folder whose store holds caches of two orders, a control, the receiver and a trial run."""
    folder = tmp_path_factory.mktemp("compare")

    def letters(right: int, questions: int = 60) -> str:
        return "".join(
            np.random.default_rng(right).permutation([*"A" * right, *"B" * (questions - right)])
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        empty_store(folder)
        store = open_store("tests")
        made = [
            condition(letters(right), keep_ratio=ratio, order=order, wire_bytes=int(1000 * ratio))
            for order, counts in SWEEPS.items()
            for ratio, right in zip(KEPT, counts, strict=True)
        ]
        made.append(condition(letters(45), wire_bytes=1000))
        made.append(condition(letters(15), wire_bytes=1000, control="deranged", donors="A" * 60))
        made.append(condition(letters(15), system="receiver"))
        made.append(condition(letters(20, 20), codec="int2", total=60, wire_bytes=10))
        made.append(condition(letters(50), wire_bytes=5, pair="other"))
        for result in made:
            write_condition(store, result)
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(folder)


def test_two_curves_of_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", "codec=int8,order=front", "codec=int8,order=back"]
    assert main([*asked, "--pair", "demo"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "set, demo, 60 questions, accuracy"
    assert printed[1] == "  A  codec=int8,order=front: 4 points, 130 B to 1.03 kB, 33.3 to 75.0 %"
    assert re.match(r"  B's points at equal bytes {7}\+1\d\.\d \[\+\d", printed[3])
    assert re.match(r"  B's bytes at equal accuracy {5}-\d\d\.\d % \[-\d", printed[4])


def test_only_answers_that_are_asked_for_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records of other conditions stay where they are: on a server they take minutes."""
    read: list[ConditionResult] = []

    def watched(*args: object) -> list[ConditionResult]:
        found = newest_results(*args)  # type: ignore[arg-type]
        read.extend(found)
        return found

    monkeypatch.setattr("latentwire.tracking.results_reader.newest_results", watched)
    asked = ["codec=int8,order=front", "codec=int8,order=back", "--json"]
    assert main(["compare", *asked]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["score_difference"]["low"] > 0 and told["bytes_difference"]["high"] < 0
    assert {(part.codec, part.control) for part in read} == {("int8", "matched")}
    assert len(read) < len(chunks_from(open_store(), "local", None))


def test_the_condition_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nearest", "--bytes", "500", "--pair", "demo"]) == 0
    printed = capsys.readouterr().out
    assert "  int8 0.3 back: 330 B a question (at most 359 B), 66.7 % [" in printed
    assert "  over the receiver alone +41.7 [" in printed
    assert "1 of 8 conditions left out: not all questions were asked." in printed
    assert main(["nearest", "--accuracy", "66", "--json"]) == 0
    captured = capsys.readouterr()
    assert "per cent" not in captured.err
    demo, other = sorted(json.loads(captured.out), key=lambda one: one["pair"])
    assert (demo["name"], other["wire_bytes_mean"]) == ("int8 0.3 back", 34.5)
    assert main(["nearest", "--bytes", "2000", "--pair", "demo"]) == 0
    assert "  pairing gain +50.0 [" in capsys.readouterr().out
    assert main(["nearest", "--accuracy", "0.8", "--pair", "demo"]) == 0
    assert "warning: --accuracy is in per cent: 0.8 is 0.8 % of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "codec=int8", "codec=int8"], "differ in keep_ratio and order are no single"),
        (
            ["compare", "codec=int8,order=front", "codec=fp8*"],
            "no finished condition is codec=fp8*",
        ),
        (["compare", "codec=int8", "int4"], "'int4' is no NAME=VALUE"),
        (["compare", "codec=a", "codec=b", "--dataset", "x"], "has no finished answers of such"),
        (
            ["compare", "codec=a", "codec=b", "--source", "published"],
            "bring them in first with latentwire run published -P reference_dir=DIR",
        ),
        (["nearest"], "give --bytes or --accuracy"),
        (["nearest", "--bytes", "nan"], "give --bytes or --accuracy"),
        (["nearest", "--accuracy", "-3"], "give --bytes or --accuracy"),
        (["nearest", "--bytes", "9", "--among", "codec"], "'codec' is no NAME=VALUE"),
        (["nearest", "--bytes", "9", "--pair", "demo"], "set, demo: None of 7 has at most 9 B"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert captured.out == "" and len(errors) == 1 and words in errors[0]
    assert "Traceback" not in captured.err
