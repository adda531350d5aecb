"""What a dry run says, and that it does nothing else."""

import hashlib
import re
from pathlib import Path

import pytest
from in_process import run_milestone
from mlflow import MlflowClient

from latentwire import environment
from latentwire.errors import LatentWireError
from latentwire.milestones import calibrate, m0, m1, m2, m3, main
from latentwire.session.cost_estimate import Throughput, chunk_throughputs, in_words
from latentwire.session.preflight_state import open_session

PUBLISHED = "qwen3_0.6b+qwen2.5_0.5b"


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("module", [m0, m1, m2, m3, main, calibrate])
def test_nothing_is_written(folder: Path, values, module) -> None:
    before = content(folder)
    run_milestone(module, values(module, dry_run="true"))
    assert content(folder) == before


@pytest.mark.parametrize("module", [m0, m1, m2, calibrate])
def test_no_store_is_made(empty: Path, values, module, capsys: pytest.CaptureFixture[str]) -> None:
    run_milestone(module, values(module, dry_run="true"))
    assert list(empty.iterdir()) == []
    out = capsys.readouterr().out
    assert re.search(r"time: unknown, no finished \w+ on this device yet", out)
    assert out.endswith("to download: nothing\n")


def test_no_store_is_made_without_the_checks_either(empty: Path, values) -> None:
    run_milestone(m2, values(m2, dry_run="true", preflight="skip"))
    assert list(empty.iterdir()) == []


def test_several_donors_are_planned_and_too_many_refused(
    empty: Path, values, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"dataset": "demo_facts", "dry_run": "true", "controls": "deranged,matched"}
    run_milestone(m0, values(m0, **given, donors=3))
    lines = [line for line in capsys.readouterr().out.splitlines() if "bf16" in line]
    assert [re.sub(r"  +", " ", line).split(" full ")[1].split(" 0")[0] for line in lines] == [
        "deranged",
        "deranged donor 2",
        "deranged donor 3",
        "matched",
    ]
    monkeypatch.setattr("latentwire.session.grid.lenders", lambda examples: 5)
    with pytest.raises(LatentWireError, match="donors=5: demo_facts has 4 other messages"):
        run_milestone(m0, values(m0, **given, donors=5))


def test_a_control_without_its_calibration_is_left_out_with_a_sentence(
    empty: Path, values, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = {"dataset": "demo_facts", "dry_run": "true", "controls": "matched,mean,noise"}
    run_milestone(m0, values(m0, **given))
    assert "controls=mean is left out: control mean needs a calibration of pair" in caplog.text
    assert "m0: 4 conditions" in capsys.readouterr().out


def test_no_experiment_is_made_in_a_store_that_is_there(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    before = content(folder)
    run_milestone(m2, values(m2, dry_run="true"))
    assert content(folder) == before


def test_the_plan_counts_what_is_finished(
    folder: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"limit": 10, "chunk_size": 4, "dataset": "demo_facts", "dry_run": "true"}
    run_milestone(m2, values(m2, **given))
    out = capsys.readouterr().out.splitlines()
    lines = out[out.index("m2: 4 conditions, 12 of 40 answers are finished") :]
    assert [line.split("  ")[-1].strip() for line in lines[1:5]] == [
        *["0 of 10 finished, 3 chunks to do"] * 2,
        *["6 of 10 finished, 2 chunks to do"] * 2,
    ]
    assert lines[5] == "  to do: 10 chunks, 28 answers"
    assert re.fullmatch(
        r"  time: about \d+ s on cpu once the models are loaded \(from 4 finished chunks\)",
        lines[6],
    )
    run_milestone(m2, values(m2, **given | {"limit": 6, "kv_bits": 4}))
    out = capsys.readouterr().out
    assert "demo_facts   c2c int4 full matched              finished\n" in out
    assert "to do: 0 chunks, 0 answers\n  time: nothing to compute\n" in out


def test_a_condition_goes_at_its_own_pace(folder: Path, values) -> None:
    session = open_session(values(m2, dry_run="true"))
    client = MlflowClient(session.store.uri)
    known, other = m2.conditions(values(m2, kv_bits=4))[0], m2.conditions(values(m2))[0]
    for run in session.store.search("tags.`latentwire.level` = 'chunk'"):
        slow = run.data.params["control"] == "matched"
        client.log_metric(run.info.run_id, "seconds", run.data.metrics["examples"] * (3 + slow))
    paces = chunk_throughputs(session)
    assert paces.time_for([(known, 10)]) == pytest.approx(40)
    assert paces.time_for([(other, 10)]) == pytest.approx(35)  # of all, over all examples
    assert paces.time_for([(known, 10), (other, 10)]) == pytest.approx(75)
    assert paces.time_for([(other, 0)]) == 0


def test_times_of_another_device_or_dtype_are_not_taken(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        chunk_throughputs(open_session(values(m2, dry_run="true", preflight="skip"))).every.runs
        == 4
    )
    half = open_session(values(m2, dry_run="true", preflight="skip", dtype="bfloat16"))
    assert chunk_throughputs(half).every.runs == 0
    session = open_session(values(m2, dry_run="true", preflight="skip"))
    monkeypatch.setattr("latentwire.session.cost_estimate.device_kind", lambda device: "NVIDIA X")
    paces = chunk_throughputs(session)
    assert paces.every.runs == 0
    assert paces.time_for([(m2.conditions(values(m2))[0], 5)]) is None


def test_a_gpu_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.device_kind("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda name: "NVIDIA X")
    assert environment.device_kind("cuda:1") == "NVIDIA X"


def test_measurements_and_calibrations_are_timed_too(
    folder: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"dataset": "demo_facts", "calibration_examples": 16}
    run_milestone(calibrate, values(calibrate, **given))
    run_milestone(m1, values(m1, dataset="demo_facts", codec="int4", sample=1))
    capsys.readouterr()
    run_milestone(calibrate, values(calibrate, **given, dry_run="true"))
    out = capsys.readouterr().out
    assert "calibrate: finished" in out and "time: nothing to compute" in out
    run_milestone(
        calibrate, values(calibrate, dataset="demo_facts", calibration_examples=20, dry_run="true")
    )
    assert "(from 1 finished calibration)" in capsys.readouterr().out
    run_milestone(m1, values(m1, dataset="demo_facts", codec="int4,int8", sample=1, dry_run="true"))
    out = capsys.readouterr().out
    assert "to do: 1 measurements of 1 questions" in out
    assert "(from 1 finished measurement)" in out


@pytest.mark.parametrize("module", [m1, m2, calibrate])
def test_a_pair_that_is_not_here_is_planned_and_not_downloaded(
    empty: Path,
    values,
    module,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import datasets
    import huggingface_hub
    from huggingface_hub import constants

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    offline_then = []

    def load(*_: object, **__: object) -> None:
        offline_then.append(datasets.config.HF_HUB_OFFLINE and constants.HF_HUB_OFFLINE)
        raise OSError("not in the cache")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(empty / "hub"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    monkeypatch.setattr(datasets, "load_dataset", load)
    run_milestone(module, values(module, pair=PUBLISHED, dry_run="true"))
    out = capsys.readouterr().out
    assert f"the files of {PUBLISHED} are not here yet" in out
    assert re.search(r"to download: at least 2\.5 GB \(receiver 1\.5 GB, .*fuser of unknown", out)
    assert offline_then and all(offline_then)
    assert not constants.HF_HUB_OFFLINE
    if module is m2:
        assert "arc_c        c2c int8 full matched              1150 answers" in out
        assert "to do: 36 chunks, 6600 answers" in out
    assert list(empty.iterdir()) == []


def test_paces_and_durations() -> None:
    pace = Throughput()
    assert pace.time_for(3) is None and pace.time_for(0) == 0
    pace.add(10, 4)
    pace.add(20, 2)
    assert pace.time_for(3) == 15 and pace.runs == 2
    assert [in_words(s) for s in (0.2, 89, 600, 7200)] == ["1 s", "89 s", "10 min", "2.0 h"]
