"""Training as a milestone: what it leaves behind, and what a kill costs (nothing)."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bare_pair import killed_after, write_bare_pair
from in_process import run_milestone
from mlflow import MlflowClient
from mlflow.entities import Run

from latentwire.errors import LatentWireError
from latentwire.milestones import m0, m7, train, training_run
from latentwire.milestones.train import PARAMETERS
from latentwire.parameters import checked
from latentwire.session.preflight_state import open_session


@pytest.fixture
def bare(empty: Path) -> Path:
    return write_bare_pair(empty)


def options(pair: Path, output: str, **given: Any) -> dict[str, Any]:
    small = {"steps": 4, "batch_size": 4, "hidden_dim": 8, "eval_every": 2, "eval_examples": 2}
    small |= {"checkpoint_every": 1, "codec": "int4,int8", "data": "chats.jsonl"}
    return {"pair": pair, "output_dir": output, "preflight": "skip"} | small | given


def runs() -> list[Run]:
    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def test_a_training_that_is_killed_ends_as_one_that_is_not(
    bare: Path, values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_milestone(train, values(train, **options(bare, "whole")))
    with killed_after(3):
        run_milestone(train, values(train, **options(bare, "killed")))
    assert not Path("killed/pair.yaml").exists()
    run_milestone(train, values(train, **options(bare, "killed")))
    first, stopped, again = runs()
    assert [run.info.status for run in (first, stopped, again)] == [
        "FINISHED",
        "KILLED",
        "FINISHED",
    ]
    for file in sorted(Path("whole/fuser/final").glob("projector_*")):
        assert file.read_bytes() == Path("killed/fuser/final", file.name).read_bytes()
    for folder in ("whole", "killed"):
        assert not Path(folder, "checkpoints").exists()
        steps = [
            json.loads(s)["step"] for s in Path(folder, "steps.jsonl").read_text().split("\n") if s
        ]
        assert steps == [1, 2, 3, 4]
        judged = Path(folder, "validation.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in judged] == [2, 4]
    # The second run of two has the curve of the whole training.
    history = MlflowClient().get_metric_history(again.info.run_id, "loss")
    assert sorted(point.step for point in history) == [1, 2, 3, 4]
    names = {entry.path for entry in MlflowClient().list_artifacts(again.info.run_id)}
    assert {"curves.png", "pair.yaml", "fuser", "validation.jsonl"} <= names
    # The pair is one for every other milestone; the one without a fuser is not.
    session = open_session(values(m0, pair="killed/pair.yaml"))
    assert (session.pair.name, session.pair.datasets) == ("tiny+int4+int8", ("demo_facts",))
    assert session.loaded.interface.layers_read("key")
    with pytest.raises(
        LatentWireError, match=r"pair tiny has no fuser: train one .*run train -P pair="
    ):
        open_session(values(m0, pair=bare))
    # A third start has nothing to do; with other parameters it needs another folder.
    capsys.readouterr()
    run_milestone(train, values(train, **options(bare, "killed")))
    assert "train: finished, the pair is killed/pair.yaml" in capsys.readouterr().out
    assert len(runs()) == 3
    with pytest.raises(LatentWireError, match=r"holds another training \(of other steps\)"):
        run_milestone(train, values(train, **options(bare, "killed", steps=5)))


LOOP = "klt2,turbo2,kvtc1"  # each comes in four batches


def test_a_calibration_for_the_loop_is_made_once(
    bare: Path,
    values: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("latentwire.training.data.MEASURED", 8)
    given = options(bare, "whole", codec=LOOP)
    run_milestone(train, values(train, **given))
    assert "train: a calibration for klt2, turbo2, kvtc1, from 8 qu" in capsys.readouterr().out
    (made,) = Path("whole").glob("calibration-*")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert made.name == f"calibration-{digest}.safetensors"
    names = {entry.path for entry in MlflowClient().list_artifacts(runs()[0].info.run_id)}
    assert made.name in names
    other = given | {"output_dir": "killed"}
    with killed_after(3):
        run_milestone(train, values(train, **other))
    kept = Path("killed", made.name)
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LatentWireError, match="is not the calibration that this training began"):
        run_milestone(train, values(train, **other))
    kept.write_bytes(content)
    capsys.readouterr()
    run_milestone(train, values(train, **other))
    assert "a calibration" not in capsys.readouterr().out
    names = [made.name, "validation.jsonl"]
    names += [f"fuser/final/{path.name}" for path in Path("whole/fuser/final").glob("proj*.pt")]
    assert len(names) > 2
    for name in names:
        assert Path("whole", name).read_bytes() == Path("killed", name).read_bytes()
    judged = [json.loads(row) for row in Path("whole/validation.jsonl").read_text().splitlines()]
    assert all(row["wire_bytes_mean"] > 0 for row in judged)


def test_kvtc_sends_every_layer_in_validation_too(
    bare: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calibration is of all of them together, whatever gates are closed."""
    monkeypatch.setattr("latentwire.training.data.MEASURED", 8)
    sent = {}
    for codec in ("kvtc1", "klt2"):
        few = {"codec": codec, "steps": 1, "gate_init": -3}
        run_milestone(train, values(train, **options(bare, codec, **few)))
        (row,) = map(json.loads, Path(codec, "validation.jsonl").read_text().splitlines())
        sent[codec] = row["wire_bytes_mean"]
    assert sent["klt2"] < 50 < sent["kvtc1"]  # a packet without a tensor, and a whole one


@pytest.mark.slow
def test_two_tokenizers_train_and_are_compared(
    empty: Path, values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = write_bare_pair(empty, two_tokenizers=True)
    rows = Path("chats.jsonl").read_text()
    empty_text = {"messages": [{"role": r, "content": ""} for r in ("user", "assistant")]}
    Path("chats.jsonl").write_text(rows + json.dumps(empty_text))

    def given(output: str, **others: Any) -> Any:
        more = {"guard_weight": 0.5, "partial_share": 0.5, "alignment": "offsets"} | others
        return values(train, **options(pair, output, **more))

    run_milestone(train, given("whole"))
    said = capsys.readouterr().out
    assert "1 left out that cannot be aligned (its messages are empty)" in said
    assert "messages through int4, int8, prompts aligned by offsets, judged by 2" in said
    with killed_after(3):
        run_milestone(train, given("killed"))
    run_milestone(train, given("killed"))
    for file in sorted(Path("whole/fuser/final").glob("projector_*")):
        assert file.read_bytes() == Path("killed/fuser/final", file.name).read_bytes()
    with pytest.raises(LatentWireError, match=r"holds another training \(of other alignment, conv"):
        run_milestone(train, given("killed", alignment="auto"))  # of the pair: longest
    # Under the alignment that it was trained with where none is named.
    session = open_session(values(m0, pair="killed/pair.yaml"))
    assert session.pair.alignment == "offsets"
    few = {"dataset": "demo_facts", "limit": 2, "chunk_size": 2}
    capsys.readouterr()
    run_milestone(m7, values(m7, pair="killed/pair.yaml", **few))
    assert "m7: 6 conditions" in capsys.readouterr().out


def test_what_is_no_number_ends_the_run_in_a_sentence(bare: Path, values: Any) -> None:
    given = options(bare, "wild", learning_rate="1e36", codec="")
    sentence = r"ended at step \d: .*try a lower .*not_finite.json names its 4 conversations"
    with pytest.raises(LatentWireError, match=f"train: training {sentence}"):
        run_milestone(train, values(train, **given))
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert not Path("wild/pair.yaml").exists()
    evidence = json.loads(Path("wild/not_finite.json").read_text())
    assert evidence["batches"] == [evidence["step"] - 1]
    assert len(evidence["conversations"]) == 4
    assert all(re.fullmatch(r".*chats\.jsonl, line \d+", c) for c in evidence["conversations"])
    assert Path(evidence["checkpoint"]).is_dir()
    names = {entry.path for entry in MlflowClient().list_artifacts(run.info.run_id)}
    assert "not_finite.json" in names


def test_too_little_memory_ends_the_run_in_a_sentence(
    bare: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 310.00 MiB.")

    monkeypatch.setattr(training_run, "train_fuser", too_large)
    with pytest.raises(LatentWireError, match=r"train: the device has not .* \(batch_size=2 and"):
        run_milestone(train, values(train, **options(bare, "large")))
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_a_dry_run_writes_nothing(
    bare: Path, values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_milestone(train, values(train, **options(bare, "out", dry_run="true")))
    said = capsys.readouterr().out
    assert "train: 12 conversations: chats.jsonl 12" in said
    assert "4 steps, 1.3 epochs, messages through int4, int8, judged by 2 validation" in said
    assert not Path("out").exists() and not Path("mlflow.db").exists()


def test_a_training_that_nothing_judges_is_warned_of(
    bare: Path, values: Any, caplog: pytest.LogCaptureFixture
) -> None:
    row = '{"question": "Which?", "choices": ["red", "blue"], "answerKey": "A"}\n'
    for count, said in ((2, 1), (5, 0)):
        rows = (row.replace("Which", f"Which {number}") for number in range(count))
        Path("lessons.jsonl").write_text("".join(rows))
        caplog.clear()
        given = options(bare, "out", data="lessons.jsonl", dry_run="true")
        run_milestone(train, values(train, **given))
        told = [r for r in caplog.records if "no validation questions" in r.getMessage()]
        assert len(told) == said


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("demo_facts_test", "the test split of demo_facts is scored and never trained on"),
        ("demo_facts,demo_graded:test", "the test split of demo_graded is scored"),
        ("nothing", "must be one of "),
        ("", "data=: name question sets to train on"),
        ("missing.jsonl", "must be a file that exists"),
    ],
)
def test_data_that_cannot_be_trained_on(data: str, sentence: str, empty: Path) -> None:
    texts = {parameter.name: parameter.default for parameter in PARAMETERS}
    with pytest.raises(LatentWireError, match=sentence):
        checked(PARAMETERS, texts | {"data": data})
