"""Calibrating and M1's measurements, which several processes want at once: done by one of them."""

import json
import signal
import subprocess
import time
from collections import Counter

import pytest
from tests_support import Project

MEASURED = {"pair": "demo", "dataset": "demo_facts", "sample": 4}
MEASURED |= {"codec": "bf16,int8,int4,int2,kivi2,nf4,mxfp4,rotate2"}
CALIBRATED = {"pair": "demo", "calibration_examples": 64}
CALIBRATION = "latentwire.calibration"


def claimed(project: Project) -> bool:
    """Whether a milestone that is RUNNING has work in hand."""
    return any(
        json.loads(run.data.tags.get("latentwire.claims", '{"keys": []}'))["keys"]
        for run in project.runs("milestone", "RUNNING")
    )


def stop_with_work_in_hand(project: Project, process: "subprocess.Popen[str]") -> None:
    """Halt a process that has claimed something."""
    while not claimed(project):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    project.halt(process)
    assert claimed(project), "it had finished before it could be halted"


def ended(process: "subprocess.Popen[str]") -> str:
    """What a process that must succeed has printed."""
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, out + err
    return out


def table(printed: str) -> list[str]:
    """M1's table of codecs; above it only one process may say that it measured the other times."""
    whole = printed.partition("in MLflow's pages:")[0].splitlines()
    lines = [line for line in whole if "at work for" not in line]  # said where it took long
    (head,) = [at for at, line in enumerate(lines) if line.split()[:2] == ["dataset", "codec"]]
    assert len(lines) == head + 1 + len(MEASURED["codec"].split(",")), printed
    return lines[head:]


def measured(project: Project) -> dict[str, tuple[float, ...]]:
    """Fingerprint -> what the clock does not change, of the codec measurements; each once."""
    runs = project.runs("codec")
    times = Counter(run.data.tags["latentwire.fingerprint"] for run in runs)
    assert set(times.values()) == {1}, times
    names = ("key_error_mean", "value_error_mean", "kl_nats_mean", "wire_bytes_mean")
    return {
        run.data.tags["latentwire.fingerprint"]: tuple(run.data.metrics[name] for name in names)
        for run in runs
    }


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, ...]]:
    """What one process alone measures."""
    project = Project.with_store(tmp_path_factory.mktemp("calm"))
    project.ok("m1", **MEASURED)
    return measured(project)


@pytest.mark.slow
def test_two_processes_share_the_measurements(
    project: Project, calm: dict[str, tuple[float, ...]]
) -> None:
    first = project.start("m1", **MEASURED)
    stop_with_work_in_hand(project, first)  # so that both have something to do
    second = project.start("m1", **MEASURED)
    project.begins_to_wait(second, 4)
    first.send_signal(signal.SIGCONT)
    tables = [table(ended(process)) for process in (first, second)]
    assert measured(project) == calm
    assert len(project.runs("link")) == 1, "the times beside the codecs, measured once"
    assert tables[0] == tables[1]  # with the times, which one of them measured
    parents = {run.data.tags["mlflow.parentRunId"] for run in project.runs("codec")}
    assert len(parents) == 2, "one process did it all"


@pytest.mark.slow
def test_measurements_of_one_that_was_killed_are_taken_over(
    project: Project, calm: dict[str, tuple[float, ...]]
) -> None:
    first = project.start("m1", **MEASURED)
    stop_with_work_in_hand(project, first)
    second = project.start("m1", **MEASURED)
    project.begins_to_wait(second, 4)
    first.kill()
    first.communicate()
    ended(second)
    assert measured(project) == calm
    ended(project.start("m1", **MEASURED))  # which marks what the killed one left
    assert project.left_running("milestone", "codec") == []


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_calibrating_is_done_once(project: Project, dies: bool) -> None:
    first = project.start("calibrate", **CALIBRATED)
    stop_with_work_in_hand(project, first)
    second = project.start("calibrate", **CALIBRATED)
    project.begins_to_wait(second, 4)
    if dies:
        first.kill()
        first.communicate()
    else:
        first.send_signal(signal.SIGCONT)
        ended(first)
    printed = ended(second)
    (made,) = [run for run in project.runs("milestone") if CALIBRATION in run.data.tags]
    assert made.info.run_id in printed
    assert ("calibrate: finished (run" in printed) != dies


@pytest.mark.slow
def test_two_mains_at_once_are_one_study(project: Project) -> None:
    small = {"pair": "demo", "dataset": "demo_facts", "limit": 8, "sample": 1}
    small |= {"calibration_examples": 16, "m1_codec": "bf16,int4,kivi2,kvtc1", "message_tokens": 8}
    small |= {"m2_kv_bits": 8, "m3_keep_ratio": 0.5}
    processes = [project.start("main", **small, output_dir=f"out{n}") for n in range(2)]
    for process in processes:
        ended(process)
    measured(project)
    project.numbers()  # which fails for a chunk that was computed twice
    assert len([run for run in project.runs("milestone") if CALIBRATION in run.data.tags]) == 1
    curves = [(project.folder / f"out{n}" / "budget_curve.csv").read_bytes() for n in range(2)]
    assert curves[0] == curves[1]
    assert project.left_running("milestone", "condition", "codec", "chunk") == []
