"""Milestones on one model at both ends, with evidence that the sharer alone reads."""

from pathlib import Path

import pandas as pd
import private_task
import pytest
from in_process import run_milestone
from mlflow import MlflowClient
from tests_support import empty_store
from tiny import STOP_ID, make_model, make_tokenizer

from latentwire.errors import LatentWireError
from latentwire.milestones import baselines, calibrate, m0, m2, m3, m4, train
from latentwire.session.condition_plan import make_plans
from latentwire.session.preflight_state import open_session
from latentwire.spec.condition import Condition, Message
from latentwire.tasks import registry
from latentwire.training.data import Reader, ScoredQuestions, load_training_data

NAME = private_task.TASK.name


@pytest.fixture
def data(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the task's rows; the task is known, and the store empty."""
    empty_store(empty)
    monkeypatch.setitem(registry.TASKS, NAME, private_task.TASK)
    return private_task.write_rows(tmp_path / "data")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder."""
    model = make_model("qwen2", seed=4)
    model.generation_config.eos_token_id = STOP_ID
    model.save_pretrained(tmp_path / "tiny")
    make_tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def rows_of(milestone: str, name: str) -> pd.DataFrame:
    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "latentwire"]
    (run,) = client.search_runs(
        [experiment.experiment_id],
        f"tags.`latentwire.level` = 'milestone' and tags.`latentwire.milestone` = '{milestone}'",
    )
    return pd.read_csv(Path(run.info.artifact_uri.removeprefix("file://")) / name)


@pytest.mark.slow
def test_a_study_from_nothing_to_curves(empty: Path, values, data: Path, model: Path) -> None:
    given = {"pair": f"self:{model}", "dataset": NAME, "data_dir": data}
    run_milestone(m0, values(m0, **given))
    run_milestone(m2, values(m2, codec="fp32", **given))
    run_milestone(m3, values(m3, keep_ratio="0.5", order="front", **given))
    run_milestone(m4, values(m4, pair="self:tiny"))
    alone = rows_of("m0", "conditions.csv").set_index("system")
    assert {*alone["pair"]} == {"self:tiny"} and {*alone["examples"]} == {5}
    curve = rows_of("m4", "budget_curve.csv")
    assert {*curve["codec"].dropna()} >= {"bf16", "fp32", "int8"}
    whole = curve[curve["codec"] == "fp32"].iloc[0]
    assert whole["accuracy"] == alone.loc["sharer", "accuracy"]
    assert whole["messages"] == 3
    assert whole["wire_bytes_per_question"] < whole["wire_bytes_mean"]
    assert whole["wire_bytes_mean"] > 2 * curve[curve["codec"] == "int8"]["wire_bytes_mean"].max()


def test_baselines_that_cannot_answer_are_not_planned(
    empty: Path, values, data: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"pair": f"self:{model}", "dataset": NAME, "data_dir": data, "dry_run": "true"}
    run_milestone(baselines, values(baselines, message_tokens="8", **given))
    planned = capsys.readouterr().out
    assert planned.count(f"\n  {NAME}") == 12  # text and summary, by codec and control
    assert not any(word in planned for word in ("letter", "logits", "calibrated"))


def test_a_file_names_an_interface_without_weights(
    empty: Path, values, data: Path, model: Path
) -> None:
    path = empty / "mine.yaml"
    lines = [
        "name: mine",
        "description: one model at both ends",
        "receiver: {path: tiny}",
        "sharer: {path: tiny}",
        f"datasets: [{NAME}]",
        "shared_tokenizer: true",
    ]
    path.write_text("\n".join([*lines, "interface: prefix"]))
    given = {"data_dir": data}
    mine = open_session(values(m0, pair=path, **given))
    own = open_session(values(m0, pair=f"self:{model}", dataset=NAME, **given))
    assert mine.files.identity == own.files.identity
    assert {*own.files.identity} == {"receiver", "sharer", "interface"}
    both = open_session(values(m0, pair=f"self:{model}", dataset=f"{NAME},demo_facts", **given))
    asked = Condition("summary", control="matched", message=Message("utf8", 8))
    plans = make_plans(both, [asked, Condition("receiver")])
    assert [(plan.setting.dataset, plan.condition.system) for plan in plans] == [
        (NAME, "summary"),
        (NAME, "receiver"),
        ("demo_facts", "receiver"),
    ]
    loaded = own.loaded
    assert loaded.sharer is loaded.receiver and loaded.interface.inserts
    for added, words in (
        ([], "pair mine has no fuser"),
        (["interface: c2c"], "'c2c' is no interface that a pair can have without a fuser"),
        (["interface: prefix", "fuser: {path: tiny}"], "give 'fuser' or 'interface'"),
    ):
        path.write_text("\n".join([*lines, *added]))
        refused(words, values(m0, pair=path, **given))


def test_what_does_not_go_together_ends_before_work_starts(
    empty: Path, values, data: Path, model: Path
) -> None:
    given = {"data_dir": data}
    refused("names no question sets: give dataset=NAME", values(m0, pair=f"self:{model}", **given))
    refused(
        f"{NAME}: the sharer alone reads the evidence, .*; take a pair .* such as pair=self:MODEL",
        values(m0, dataset=NAME, **given),
    )
    refused("there is no such folder; give self:FOLDER", values(m0, pair="self:./none", **given))
    refused(
        "self:tiny has one model at both ends, and 'prefix' has then no weights to train: give",
        values(train, pair=f"self:{model}", data=NAME, dataset=NAME, **given),
    )
    with pytest.raises(LatentWireError, match="training takes prompts that both models read"):
        load_training_data([NAME], [], ScoredQuestions([]), Reader(make_tokenizer()), data, 0)


def test_a_milestone_without_a_seed_reads_the_questions_too(
    empty: Path, values, data: Path, model: Path
) -> None:
    """Lengths that only tokens tell are looked at before work starts."""
    given = {"pair": f"self:{model}", "dataset": NAME, "data_dir": data}
    opened = open_session(values(calibrate, **given))
    assert "seed" not in opened.values and len(opened.asked(NAME)) == 5


def refused(words: str, given: object) -> None:
    with pytest.raises(LatentWireError, match=rf"preflight: .*{words}") as error:
        open_session(given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
