"""The fast part in every milestone, and the whole of it."""

import json
import re
import shutil
import time
from collections import namedtuple
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from copied_pair import pair_of
from in_process import run_milestone
from mlflow import MlflowClient
from mlflow.entities import Run
from small_server import small_server

from latentwire.errors import LatentWireError
from latentwire.milestones import (
    baselines,
    calibrate,
    m2,
    preflight,
)
from latentwire.milestones.registry import all_milestones
from latentwire.parameters import STUDY
from latentwire.session import milestone_run, preflight_state
from latentwire.session.preflight_state import open_session
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.registry import TASKS, load_dataset

COMPUTING = [
    import_module(f"latentwire.milestones.{made.name}")
    for made in all_milestones()
    if any(parameter.name == "preflight" for parameter in made.parameters)
]
PASSED = re.compile(r"preflight: 15 checks passed$", re.MULTILINE)
Usage = namedtuple("Usage", "total used free")


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**6))


def report(folder: Path) -> dict[str, dict[str, str]]:
    """Title -> finding, of the report that was logged last."""
    (run,) = [r for r in runs(folder) if r.data.tags.get("latentwire.milestone") == "preflight"]
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    content = json.loads((artifacts / "preflight.json").read_text())
    text = (artifacts / "preflight.txt").read_text()
    for check in content["checks"]:
        assert f"{check['title']} " in text and check["text"] in text
    return {check["title"]: check for check in content["checks"]}


@pytest.mark.parametrize("module", COMPUTING)
def test_a_failed_check_ends_a_milestone_before_its_run(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    before = len(runs(folder))
    no_room(monkeypatch)
    asked = {"limit": 1, "dataset": "demo_facts"}
    trains = any(parameter.name == "data" for parameter in module.PARAMETERS)
    with pytest.raises(LatentWireError, match=r"^preflight: disk: 1\.0 MB free in .*make room"):
        run_milestone(
            module,
            values(module, **(asked | ({"data": "openbookqa"} if trains else {})))
            if module is not calibrate
            else values(module),
        )
    assert len(runs(folder)) == before


@pytest.mark.parametrize("module", COMPUTING)
def test_skip_leaves_the_checks_out(
    folder: Path,
    values,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    no_room(monkeypatch)
    monkeypatch.setattr(preflight_state, "check_packages", lambda: pytest.fail("checked"))
    run_milestone(module, values(module, preflight="skip", dry_run="true", data="demo_graded"))
    out = capsys.readouterr().out
    assert out.startswith("pair demo (as asked) on cpu")
    assert "preflight" not in out


def test_workers_import_beside_the_checks_of_work(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(preflight_state, "begin_imports", begun.append)
    asked = {"dataset": "demo_facts", "pair": "untrained:demo"}  # which no store knows
    open_session(values(m2, workers=1, **asked))
    open_session(values(m2, workers=2, dry_run="true", **asked))
    assert not begun
    open_session(values(m2, workers=2, **asked))
    assert begun == [preflight_state.COMPUTING] and import_module(begun[0])


def test_one_line_where_all_is_well(
    folder: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    before = time.process_time()
    session = open_session(values(m2))
    assert time.process_time() - before < 2
    captured = capsys.readouterr()
    first, second = captured.out.splitlines()
    assert first.startswith("pair demo (as asked) on cpu")
    assert PASSED.fullmatch(second)
    assert captured.err == ""
    assert "in_memory" not in vars(session.files)  # no model was loaded
    assert set(session.kept.datasets) == {"demo_facts", "demo_graded"}


def test_a_warning_is_printed_and_stops_nothing(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("C2C_CKPT_ROOT", "/nowhere")
    open_session(values(m2))
    captured = capsys.readouterr()
    assert "14 checks passed, 1 warned\n" in captured.out
    assert captured.err.startswith(
        "preflight: warning: caches: C2C_CKPT_ROOT /nowhere is no folder"
    )


def test_every_failed_check_has_its_sentence_and_nothing_is_made(
    empty: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room(monkeypatch)
    with pytest.raises(LatentWireError) as error:
        open_session(values(m2, pair="nobody", device="cuda:77"))
    sentences = str(error.value).splitlines()
    assert [s.split(": ")[1] for s in sentences] == ["device", "pair", "disk"]
    assert all("; to mend: " in s for s in sentences)
    assert list(empty.iterdir()) == []


def test_a_fuser_is_refused_where_the_sharer_alone_reads_the_evidence(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS["squad"]
    monkeypatch.setitem(TASKS, task.name, replace(task, test=replace(task.test, expected=None)))
    (folder / "squad").mkdir()
    rows = [
        {
            "id": str(n),
            "context": f"It is {n}.",
            "question": "What is it?",
            "answers": {"text": [n]},
        }
        for n in "12"
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / task.test.file).write_text(lines)
    before = len(runs(folder))
    refused = (
        r"^preflight: prompts: squad: the sharer alone reads the evidence, so .*pair=self:MODEL"
    )
    with pytest.raises(LatentWireError, match=refused):
        run_milestone(m2, values(m2, dataset="squad", data_dir=str(folder)))
    assert len(runs(folder)) == before


def test_a_missing_and_a_truncated_file_are_named(folder: Path, values) -> None:
    pair = pair_of(folder)
    open_session(values(m2, pair=pair))
    path = folder / "receiver" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LatentWireError, match=r"pair files: .*model\.safetensors is cut short"):
        open_session(values(m2, pair=pair))
    path.unlink()
    with pytest.raises(LatentWireError, match=r"receiver is incomplete: no \*\.safetensors"):
        open_session(values(m2, pair=pair))


def test_a_pinned_hash_is_held(folder: Path, values) -> None:
    pair = pair_of(folder, sha256="ab" * 32)
    session = open_session(values(m2, pair=pair))
    with pytest.raises(LatentWireError, match=r"fuser is not the one that pair mine pins"):
        _ = session.files.identity


def test_the_whole_report_is_logged(
    folder: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    preflight.run(values(preflight))
    out = capsys.readouterr().out
    found = report(folder)
    assert {check["state"] for check in found.values()} == {"ok"}
    assert len(found) == 21
    assert "gates open" in found["pair in memory"]["text"]
    assert "answered" in found["one question"]["text"]
    assert "\npreflight: 21 ok in " in out
    assert {run.info.status for run in runs(folder)} == {"FINISHED"}


def test_a_failed_report_is_logged_too_and_its_run_has_failed(folder: Path, values) -> None:
    pair = pair_of(folder, sha256="ab" * 32)
    (folder / "fuser" / "projector_2.pt").write_bytes(b"")
    with pytest.raises(LatentWireError, match=r"1 of 20 checks failed \(pair files\), see above"):
        preflight.run(values(preflight, pair=pair))
    found = report(folder)
    states = {title: check["state"] for title, check in found.items()}
    assert states["pair files"] == "fail"
    assert states["round trip"] == states["data demo_facts"] == states["clock"] == "ok"
    for title in ("memory", "download", "hashes", "pair in memory", "one question"):
        assert states[title] == "skip"
    assert found["memory"]["text"] == "needs pair files"
    assert found["pair files"]["mend"].startswith("fetch the files again")
    (run,) = [r for r in runs(folder) if r.data.tags.get("latentwire.milestone") == "preflight"]
    assert run.info.status == "FAILED"


def test_a_pair_that_there_is_not_leaves_the_rest_checked(folder: Path, values) -> None:
    with pytest.raises(LatentWireError, match=r"failed \(pair\)"):
        preflight.run(values(preflight, pair="nobody"))
    found = report(folder)
    assert found["round trip"]["state"] == found["device"]["state"] == "ok"
    assert found["pair files"]["state"] == found["one question"]["state"] == "skip"


def test_a_wrong_hash_is_found(folder: Path, values) -> None:
    with pytest.raises(LatentWireError, match=r"failed \(hashes"):
        preflight.run(values(preflight, pair=pair_of(folder, sha256="ab" * 32)))
    assert "not the one that pair mine pins" in report(folder)["hashes"]["text"]


def test_letters_that_are_no_tokens_are_said_before_work_starts(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_nine(name: str, *_: object, **__: object) -> Dataset:
        dataset = load_dataset(name)
        first = replace(dataset.examples[0], choices=("a", "b", "c") * 3)
        return replace(dataset, examples=(first, *dataset.examples[1:]))

    open_session(values(baselines, dataset="demo_facts"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(preflight_state, "load_dataset", of_nine)
    open_session(values(baselines, dataset="demo_facts"))
    said = capsys.readouterr().err
    assert said.startswith(
        "preflight: warning: options: logits and calibrated leave unanswered 1 of 500 questions of"
        " demo_facts: the tokenizer does not make one token of each letter A to I"
    )
    open_session(values(m2, dataset="demo_facts"))  # sends no option logits
    assert capsys.readouterr().err == ""


def test_closed_gates_are_doubted(folder: Path, values, monkeypatch: pytest.MonkeyPatch) -> None:
    from c2c.projector import Projector

    monkeypatch.setattr(Projector, "is_open", lambda self, kind: False)
    preflight.run(values(preflight))
    assert report(folder)["pair in memory"]["state"] == "warn"


def test_without_a_store_the_report_is_printed(
    empty: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_server() as uri:
        pass  # nobody listens there any more
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(LatentWireError, match=r"failed \(tracking store\)"):
        preflight.run(values(preflight))
    out = capsys.readouterr().out
    assert re.search(r"fail +tracking store +no tracking server answers", out)
    assert re.search(r"skip +clock +needs store opens", out)
    assert re.search(r"ok +one question +answered", out)
    assert "the report is not logged" in out


def test_a_store_that_refuses_artifacts_is_a_failed_check(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    with small_server(status=403) as uri:
        address = f"{uri}/api/2.0/mlflow-artifacts/artifacts"
        client.create_experiment("refusing", artifact_location=address)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "refusing")
        with pytest.raises(LatentWireError, match=r"failed \(round trip\)"):
            preflight.run(values(preflight))
    assert re.search(r"ok +one question", capsys.readouterr().out)
    assert "RUNNING" not in {run.info.status for run in runs(folder)}


def test_under_dry_run_nothing_is_written(
    empty: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    preflight.run(values(preflight, dry_run="true"))
    assert list(empty.iterdir()) == []
    assert re.search(r"skip +round trip +nothing is written under dry_run", capsys.readouterr().out)


def test_preflight_does_not_take_itself_as_a_parameter() -> None:
    assert {p.name for p in STUDY} - {p.name for p in preflight.PARAMETERS} == {"preflight"}
    assert "preflight" in milestone_run._NOT_IDENTITY


def test_what_neither_cache_nor_hub_has_is_refused_before_work(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from huggingface_hub import constants

    with small_server() as uri:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", uri)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(LatentWireError) as refused:
        open_session(values(m2, pair="self:nobody/model", dataset="xquad"))
    model, questions = str(refused.value).split("\n")
    assert model.startswith("preflight: pair files: the model nobody/model could not be had: ")
    assert "the Hugging Face hub cannot be reached" in model
    assert questions.startswith("preflight: data xquad: ") and "data_dir" in questions
    assert "(the hub cannot be reached)" in questions
