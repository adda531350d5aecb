"""M5 on tiny models: every training and answer once, and a table that follows from the answers."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bare_pair import write_bare_pair
from in_process import run_milestone
from mlflow import MlflowClient
from mlflow.entities import Run

from latentwire.errors import LatentWireError
from latentwire.milestones import m5


def options(pair: Path, **given: Any) -> dict[str, Any]:
    small = {"steps": 2, "batch_size": 4, "hidden_dim": 8, "eval_every": 0, "eval_examples": 2}
    small |= {"data": "chats.jsonl", "codec": "int2", "seeds": 2, "limit": 3, "chunk_size": 2}
    return {"pair": pair, "output_dir": "out", "preflight": "skip"} | small | given


def runs() -> list[Run]:
    client = MlflowClient()
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


@pytest.mark.slow
def test_what_comes_back_is_tabled_and_nothing_is_done_twice(
    empty: Path, values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = write_bare_pair(empty)
    run_milestone(m5, values(m5, **options(pair)))
    done = runs()
    assert {run.info.status for run in done} == {"FINISHED"}
    levels = [run.data.tags["latentwire.level"] for run in done]
    assert levels.count("chunk") == 2 * 2 * 2 * 2  # seeds, trainings, codecs, chunks
    (milestone,) = [run for run in done if run.data.tags.get("latentwire.milestone") == "m5"]
    names = {entry.path for entry in MlflowClient().list_artifacts(milestone.info.run_id)}
    assert {"recovery.csv", "recovery.png", "recovery.svg"} <= names
    table = pd.read_csv("out/recovery.csv")
    (row,) = table.to_dict(orient="records")
    assert (row["codec"], row["dataset"], row["questions"]) == ("int2", "demo_facts", 3)
    # The means of what the condition runs say, of both seeds.
    conditions = [run for run in done if run.data.tags["latentwire.level"] == "condition"]
    for column, trained, codec in (
        ("accuracy_plain", "16bit", "bf16"),
        ("accuracy_coded", "16bit", "int2"),
        ("accuracy_trained", "int2", "int2"),
    ):
        scored = [
            run.data.metrics["accuracy"]
            for run in conditions
            if f"+{trained}+" in run.data.params["pair"] and run.data.params["codec"] == codec
        ]
        assert len(scored) == 2
        assert row[column] == pytest.approx(sum(scored) / 2)
    assert "demo_facts_int2_recovered_points" in milestone.data.metrics
    capsys.readouterr()
    run_milestone(m5, values(m5, **options(pair)))
    said = capsys.readouterr().out
    assert said.count("train: finished") == 4
    assert said.count("m2: 2 conditions, 6 of 6 answers are finished") == 4
    again = [run.data.tags["latentwire.level"] for run in runs()]
    assert again.count("chunk") == levels.count("chunk")


@pytest.mark.slow
def test_each_trained_pair_is_calibrated_for_what_it_sends(
    empty: Path, values: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentwire.training.data.MEASURED", 8)
    few = {"codec": "klt2,kvtc1", "seeds": 1, "calibration_examples": 8, "limit": 2}
    given = options(write_bare_pair(empty), **few)
    run_milestone(m5, values(m5, **given))
    done = runs()
    assert {run.info.status for run in done} == {"FINISHED"}
    conditions = [run for run in done if run.data.tags["latentwire.level"] == "condition"]
    used = {
        (run.data.params["pair"].split("+")[1], run.data.params["calibration"])
        for run in conditions
        if run.data.params["codec"] != "bf16"
    }
    assert {pair for pair, _ in used} == {"16bit", "klt2", "kvtc1"}
    assert len({calibration for _, calibration in used} - {"none"}) == len(used) == 3
    table = pd.read_csv("out/recovery.csv")
    assert [*table["codec"]] == ["klt2", "kvtc1"]
    capsys.readouterr()
    run_milestone(m5, values(m5, **given))
    said = capsys.readouterr().out
    assert said.count("calibrate: finished") == said.count("train: finished") == 3
    assert said.count("m2: 3 conditions, 6 of 6 answers are finished") == 3


@pytest.mark.parametrize(
    ("codec", "sentence"),
    [
        ("", "codec=: name the codecs to train through"),
        ("int4,bf16", "codec=bf16: a training in 16 bits is always made"),
    ],
)
def test_codecs_through_which_nothing_is_trained(
    codec: str, sentence: str, empty: Path, values: Any
) -> None:
    with pytest.raises(LatentWireError, match=sentence):
        run_milestone(m5, values(m5, **options(write_bare_pair(empty), codec=codec)))
    assert not Path("out").exists()


def test_nothing_to_train_on_is_said_before_a_run_begins(empty: Path, values: Any) -> None:
    with pytest.raises(LatentWireError, match="data=: name question sets to train on"):
        run_milestone(m5, values(m5, **options(write_bare_pair(empty), data="")))
    assert not Path("out").exists() and not runs()


def test_a_dry_run_says_what_would_be_trained(
    empty: Path, values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_milestone(m5, values(m5, **options(write_bare_pair(empty), dry_run="true")))
    assert capsys.readouterr().out.count("2 steps, ") == 4
    assert not Path("out").exists() and not Path("mlflow.db").exists()
