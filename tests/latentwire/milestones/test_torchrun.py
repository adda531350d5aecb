"""Trainings of two processes, started as torchrun starts them: what they leave, how they end."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bare_pair import write_bare_pair
from in_process import run_milestone
from launched import Launched, options_of, the_launcher
from tests_support import Project
from torch.distributed import TCPStore

from latentwire.errors import LatentWireError
from latentwire.milestones import train
from latentwire.session.torchrun import require_fit

SMALL = {"steps": 4, "batch_size": 5, "hidden_dim": 8, "eval_every": 2, "eval_examples": 2}
GIVEN = SMALL | {"pair": "tiny/pair.yaml", "data": "chats.jsonl", "checkpoint_every": 1}
GIVEN |= {"output_dir": "out", "preflight": "skip", "device": "cpu"}


class Torchrun:
    """What torchrun gives to two processes: a store to meet at, and who each is."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.started = 0

    def start(self, folders: tuple[Path, Path], entry: str, **given: Any) -> list[Launched]:
        self.started += 1
        common = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_RUN_ID": "test",
            "TORCHELASTIC_RESTART_COUNT": str(self.started),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        options = options_of(given)
        return [
            the_launcher().start(
                entry,
                options,
                folder,
                self.project.env | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, folder in enumerate(folders)
        ]

    def run(self, entry: str = "train", other: Path | None = None, **given: Any) -> list[str]:
        """Start and wait for the first process; then the second is ended, where it has not. What
        the first printed and its exit status, and of the second likewise."""
        here = self.project.folder
        first, second = self.start((here, other or here), entry, **(GIVEN | given))
        found = [*first.communicate(timeout=600), str(first.returncode)]
        if first.returncode:
            second.send_signal(signal.SIGTERM)
        return [*found, *second.communicate(timeout=60), str(second.returncode)]


@pytest.fixture
def torchrun(project: Project) -> Iterator[Torchrun]:
    write_bare_pair(project.folder)
    return Torchrun(project)


def test_two_processes_train_one_fuser(torchrun: Torchrun, values: Any, empty: Path) -> None:
    project = torchrun.project
    said, _, status, *other = torchrun.run()
    assert "4 steps, by 2 processes, 1.7 epochs" in said and status == "0"
    assert other == ["", "", "0"]
    assert len(project.runs("milestone")) == 1
    folder = project.folder / "out"
    assert json.loads((folder / "recipe.json").read_text())["processes"] == 2
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    # It is another training than that of one process, for other numbers are drawn.
    again, *_ = torchrun.run()
    assert "train: finished" in again
    with pytest.raises(LatentWireError, match=r"another training \(of other processes\)"):
        run_milestone(train, values(train, **GIVEN))
    _, told, *_ = torchrun.run("m2")
    assert told == "error: m2 does not train: start it without torchrun\n"


@pytest.mark.parametrize(
    ("joined", "sentence"),
    [(False, "chats.jsonl cannot be read"), (True, "checkpoints of a run with other settings")],
)
def test_an_error_in_the_second_process_is_the_firsts_sentence(
    torchrun: Torchrun, tmp_path: Path, joined: bool, sentence: str
) -> None:
    """Before it has joined the first, or while that waits for it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if joined:
        shutil.copy(torchrun.project.folder / "chats.jsonl", elsewhere)
        other_settings = elsewhere / "out" / "checkpoints" / "step_00000001" / "settings.json"
        other_settings.parent.mkdir(parents=True)
        other_settings.write_text("{}")
    _, told, status, *other = torchrun.run(other=elsewhere)
    assert status == "2" and told.count("error: ") == 1
    assert sentence in told.splitlines()[-1]
    assert other == ["", "", "2"]
    assert len(torchrun.project.runs("milestone", "FAILED")) == 1


def test_what_is_no_number_is_told_once_and_its_evidence_is_kept(torchrun: Torchrun) -> None:
    _, told, status, *other = torchrun.run(learning_rate="1e36")
    assert status == "2" and told.count("error: ") == 1
    assert "not_finite.json names its 5 conversations" in told
    assert other == ["", "", str(-signal.SIGTERM)]
    assert (torchrun.project.folder / "out" / "not_finite.json").exists()
    assert len(torchrun.project.runs("milestone", "FAILED")) == 1


@pytest.mark.parametrize(
    ("signals", "statuses"),
    [
        ((signal.SIGTERM,), [143, -signal.SIGTERM]),
        # From a terminal and then from torchrun, while the first ends its run.
        ((signal.SIGINT, signal.SIGINT, signal.SIGTERM), [130, -signal.SIGINT]),
    ],
)
def test_processes_that_are_asked_to_end_go_on_where_they_were(
    torchrun: Torchrun, signals: tuple[signal.Signals, ...], statuses: list[int]
) -> None:
    project = torchrun.project
    given = GIVEN | {"steps": 300, "eval_every": 0}
    processes = torchrun.start((project.folder, project.folder), "train", **given)
    while not list((project.folder / "out" / "checkpoints").glob("step_*")):
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.05)
    for number in signals:
        for process in processes:
            process.send_signal(number)
        time.sleep(0.05)
    _, told = processes[0].communicate(timeout=60)
    assert [process.wait(60) for process in processes] == statuses
    assert re.search("error: (terminated|interrupted)", told) and "Traceback" not in told
    assert len(project.runs("milestone", "KILLED")) == 1
    said, *_ = torchrun.run(steps=300, eval_every=0, dry_run="true")
    assert "of them done, by 2 processes" in said


@pytest.mark.slow
def test_one_process_calibrates_for_all_and_a_later_start_goes_on(torchrun: Torchrun) -> None:
    project = torchrun.project
    given = GIVEN | {"codec": "klt2,turbo2", "eval_every": 0, "steps": 12}
    processes = torchrun.start((project.folder, project.folder), "train", **given)
    while not list((project.folder / "out" / "checkpoints").glob("step_*")):
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.05)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=60)
    weights = {}
    for output in ("out", "whole"):
        said, told, status, *_ = torchrun.run(**given | {"output_dir": output})
        assert status == "0", told
        assert ("train: a calibration for klt2, turbo2" in said) == (output == "whole")
        files = sorted((project.folder / output).glob("fuser/final/projector_*.pt"))
        files += (project.folder / output).glob("calibration-*")
        weights[output] = {file.name: file.read_bytes() for file in files}
    assert weights["out"] == weights["whole"] and len(weights["out"]) > 1


def test_what_several_processes_cannot_train_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"TORCHELASTIC_RUN_ID": "test", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for device, batch_size, sentence in (
        ("cpu", 1, "batch_size=1: each of 2 processes reads a part"),
        ("cuda:1", 2, "device=cuda:1: each of 2 processes has a GPU of its own"),
        ("cuda", 2, "2 processes on a machine with 0 GPUs: start it with"),
    ):
        with pytest.raises(LatentWireError, match=sentence):
            require_fit(device, batch_size)
