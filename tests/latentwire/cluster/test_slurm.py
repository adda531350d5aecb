"""Studies on a real Slurm cluster, disturbed: their numbers are those of an undisturbed run."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
from bare_pair import write_bare_pair
from filelock import FileLock
from forked_python import write_python
from launched import the_launcher
from mlflow import MlflowClient
from slurm_cluster import CPUS, Cluster, missing_programs
from tests_support import Project

from latentwire.cli import main
from latentwire.milestones.budget_curves import load_curve
from latentwire.tracking.store import Store

pytestmark = pytest.mark.slurm

PARAMETERS: dict[str, object] = {
    "pair": "demo",
    "dataset": "demo_facts",
    "limit": 64,
    "chunk_size": 8,
    "kv_bits": 8,
    "keep_ratio": "1,0.5",
    "order": "front",
}
CHUNKS = 4 * 64 // 8  # two keep ratios, matched and deranged
ALONE = ("--cpus-per-task", str(CPUS))  # a task of that size leaves no room for another
Numbers = tuple[float, ...]


class Study:
    """A project's folder on the cluster, with a store of its own."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        folder.mkdir()
        self.cluster = cluster
        self.project = Project(folder, f"sqlite:///{folder / 'mlflow.db'}")
        self.project.env |= cluster.env
        self._python = folder.with_name("environment") / "bin" / "python"
        self._python.parent.mkdir(parents=True)
        self._python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self._python.chmod(0o755)
        self.project.env["CONDA_ENV_PATH"] = str(self._python.parents[1])

    def fork(self) -> "Study":
        """Tasks that start from now on do without imports of their own."""
        write_python(self._python, the_launcher())
        return self

    def submit(self, *options: str, milestone: str = "m3", **given: object) -> str:
        """Submit a milestone; what it printed."""
        named = given or PARAMETERS
        parameters = [text for k, v in named.items() for text in ("-P", f"{k}={v}")]
        printed = io.StringIO()
        with (
            contextlib.chdir(self.project.folder),
            mock.patch.dict(os.environ, self.project.env, clear=True),
            contextlib.redirect_stdout(printed),
        ):
            assert main(["submit", milestone, *parameters, *options]) == 0
        return printed.getvalue()

    def wait_for_chunks(self, least: int) -> None:
        self.cluster.wait_for(lambda: self._chunks() >= least, 600, f"{least} chunks")

    def wait_for_end(self, number: str) -> None:
        """Wait until no task of a job is queued or running."""
        ended = lambda: not self.cluster.slurm("squeue", "--noheader", f"--jobs={number}")  # noqa: E731
        self.cluster.wait_for(ended, 900, f"job {number} to end")

    def log(self, number: str) -> str:
        files = sorted((self.project.folder / "outputs" / "slurm").glob(f"*-{number}_*.log"))
        return "\n".join(file.read_text() for file in files)

    def _chunks(self) -> int:
        database = self.project.folder / "mlflow.db"
        if not database.exists():
            return 0
        with FileLock(f"{database}.lock"):  # a task may be making it at this moment
            return self.project.count("chunk", "FINISHED")

    def numbers(self) -> tuple[dict[str, Numbers], int]:
        """Chunk fingerprint -> its numbers, which every run of it must share; and how many chunk
        runs there are beyond the first of their fingerprint."""
        runs = self.project.runs("chunk")
        found: dict[str, set[Numbers]] = {}
        for run in runs:
            values = tuple(
                run.data.metrics[name] for name in ("examples", "correct", "wire_bytes_mean")
            )
            found.setdefault(run.data.tags["latentwire.fingerprint"], set()).add(values)
        assert all(len(values) == 1 for values in found.values()), "runs of one chunk disagree"
        return {key: values.pop() for key, values in found.items()}, len(runs) - len(found)

    def curve(self) -> pd.DataFrame:
        """M4's table."""
        return load_curve(
            Store(MlflowClient(self.project.uri), self.project.uri, "0"), ("local",), None, None
        )

    def assert_same_as(self, calm: "Study") -> None:
        """Every number is the undisturbed run's, from one chunk run each, and nothing is open."""
        numbers, repeated = self.numbers()
        assert numbers == calm.numbers()[0]
        pd.testing.assert_frame_equal(self.curve(), calm.curve(), check_exact=True)
        assert repeated == 0
        for level in ("milestone", "condition", "chunk"):
            assert self.project.runs(level, "RUNNING") == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    missing = missing_programs()
    if missing:
        reason = f"no Slurm here ({', '.join(missing)}): apt-get install slurm-wlm munge"
        (pytest.fail if os.environ.get("LATENTWIRE_REQUIRE_SLURM") == "1" else pytest.skip)(reason)
    made = Cluster()
    try:
        made.start()
        # A progress bar for every file read back would bury what a failing test says.
        with mock.patch.dict(os.environ, {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
            yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def calm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same study, run on this machine without Slurm."""
    study = Study(tmp_path_factory.mktemp("calm") / "study", cluster)
    study.project.ok("m3", **PARAMETERS)
    assert len(study.numbers()[0]) == CHUNKS
    return study


@pytest.fixture
def study(cluster: Cluster, tmp_path: Path) -> Study:
    return Study(tmp_path / "a study", cluster).fork()


@pytest.fixture
def real_study(cluster: Cluster, tmp_path: Path) -> Study:
    """One whose tasks, and what delivers their results, are processes of the job and of no other:
    what Slurm does to a job, it does to each of them."""
    return Study(tmp_path / "a study", cluster)


def job_number(printed: str) -> str:
    found = re.search(r"submitted \w+ as job (\d+)", printed)
    assert found, printed
    return found[1]


def test_requeued_and_then_warned_before_the_time_limit(
    cluster: Cluster, calm: Study, real_study: Study
) -> None:
    """The signal that --signal=B:USR1 asks for, sent by hand: limits are whole minutes."""
    study = real_study
    number = job_number(study.submit("--restarts", "2"))
    study.wait_for_chunks(4)
    cluster.slurm("scontrol", "requeue", f"{number}_0")
    begun = lambda: study.project.count("milestone")  # noqa: E731
    cluster.wait_for(lambda: begun() == 2, 600, "the requeued task's milestone")
    assert "terminated; finished chunks are kept" in study.log(number)
    assert "stopped and requeued" not in study.log(number)  # it was requeued already
    study.fork()  # the last task: nothing happens to it
    cluster.slurm("scancel", "--batch", "--signal=USR1", f"{number}_0")
    cluster.wait_for(lambda: "stopped and requeued" in study.log(number), 240, "the requeue")
    study.wait_for_end(number)
    (job,) = cluster.jobs(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "2"), study.log(number)
    assert len(study.project.runs("milestone", "KILLED")) == 2
    study.assert_same_as(calm)


def test_cancelled_in_the_middle(cluster: Cluster, calm: Study, study: Study) -> None:
    number = job_number(study.submit())
    study.wait_for_chunks(4)
    cluster.slurm("scancel", number)
    study.wait_for_end(number)
    kept = len(study.numbers()[0])
    assert 4 <= kept < CHUNKS
    assert len(study.project.runs("milestone", "KILLED")) == 1
    assert len(study.project.runs("condition", "KILLED")) == 4
    for level in ("milestone", "condition", "chunk"):
        assert study.project.runs(level, "RUNNING") == []
    (job,) = cluster.jobs(number)  # a job that its script had requeued would be PENDING by now
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0"), study.log(number)
    again = job_number(study.submit())
    study.wait_for_end(again)
    # With those that were computed and still on their way to the store.
    found = re.search(rf"(\d+) of {CHUNKS * 8} answers are finished", study.log(again))
    assert found and kept * 8 <= int(found[1])
    study.assert_same_as(calm)


def test_node_drained_and_resumed(cluster: Cluster, calm: Study, study: Study) -> None:
    """What runs goes on to its end; the next task waits for the node."""
    number = job_number(study.submit("--tasks", "2", *ALONE))
    study.wait_for_chunks(4)
    update = ("scontrol", "update", f"NodeName={cluster.host}")
    cluster.slurm(*update, "State=DRAIN", "Reason=test")
    try:
        cluster.wait_for(lambda: cluster.node_state() == "drained", 360, "the node to be drained")
        assert cluster.states(number) == ["COMPLETED", "PENDING"]
    finally:
        cluster.slurm(*update, "State=RESUME")
    study.wait_for_end(number)
    assert cluster.states(number) == ["COMPLETED", "COMPLETED"], study.log(number)
    assert f"{CHUNKS * 8} of {CHUNKS * 8} answers are finished" in study.log(number)
    study.assert_same_as(calm)


def test_an_array_and_m4_after_it(cluster: Cluster, calm: Study, study: Study) -> None:
    printed = study.submit("--tasks", "2", "--then", "m4", "-P", "output_dir=curves")
    number = job_number(printed)
    assert f"cancel: scancel {number}" in printed
    found = re.search(r"submitted m4 as job (\d+)", printed)
    assert found
    after = found[1]
    assert cluster.states(after) == ["PENDING"]
    study.wait_for_end(f"{number},{after}")
    assert cluster.states(number) == ["COMPLETED"] * 2, study.log(number)
    assert cluster.states(after) == ["COMPLETED"], study.log(after)
    assert study.log(number).count("ended with status 0") == 2
    study.assert_same_as(calm)
    environments = _environments(study)
    assert {e["SLURM_ARRAY_JOB_ID"] for e in environments} == {number, after}
    assert sorted(e["SLURM_ARRAY_TASK_ID"] for e in environments) == ["0", "0", "1"]
    written = pd.read_csv(study.project.folder / "curves" / "budget_curve.csv")
    assert (written["examples"] == 64).all() and len(written) == 2


def test_a_training_that_is_requeued_goes_on_from_its_checkpoint(
    cluster: Cluster, study: Study
) -> None:
    """It ends with the weights of one that ran here, undisturbed."""
    folder = study.project.folder
    given = {"steps": 80, "batch_size": 4, "hidden_dim": 8, "eval_every": 0, "eval_examples": 2}
    given |= {"checkpoint_every": 5, "data": "chats.jsonl", "preflight": "skip"}
    given["pair"] = write_bare_pair(folder)
    number = job_number(study.submit(milestone="train", **given, output_dir="disturbed"))
    checkpoints = folder / "disturbed" / "checkpoints"
    cluster.wait_for(lambda: list(checkpoints.glob("step_*")) != [], 240, "a checkpoint")
    cluster.slurm("scontrol", "requeue", f"{number}_0")
    study.wait_for_end(number)
    (job,) = cluster.jobs(number)
    log = study.log(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), log
    assert re.search(r"80 steps, \d+ of them done", log), log
    assert study.project.runs("milestone", "RUNNING") == []
    study.project.ok("train", **given, output_dir="calm")
    files = sorted((folder / "calm" / "fuser" / "final").glob("projector_*"))
    assert len(files) > 1
    for file in files:
        assert file.read_bytes() == (folder / "disturbed/fuser/final" / file.name).read_bytes()


def _environments(study: Study) -> list[dict[str, str]]:
    """Of every milestone, the variables that it was started with."""
    client = MlflowClient(study.project.uri)
    paths = [
        client.download_artifacts(run.info.run_id, "environment.json")
        for run in study.project.runs("milestone")
    ]
    return [pd.read_json(path, typ="series")["variables"] for path in paths]
