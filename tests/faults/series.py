"""Starts of `main` that are ended at random instants, again and again over one store."""

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launched import Launched, options_of, surroundings, the_launcher

from faults.stores import Held, compare, held, still_running

PARAMETERS = {
    "pair": "demo",
    "dataset": "demo_facts",
    "limit": 12,
    "chunk_size": 4,
    "sample": 1,
    "message_tokens": "8",
    "calibration_examples": 16,
    "device": "cpu",
    "output_dir": "out",
}
OUTPUT = "output.txt"  # what a start has printed, in its folder
LONGEST_S = 12.0  # a start that finds all but the end finished gets there within it
END_WITHIN_S = 60.0  # after a signal that a process may answer, on a busy machine
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}
PHASE = re.compile(r"^(m\d|baselines|calibrate|curves)\b", re.MULTILINE)


def start(folder: Path, parameters: Mapping[str, object]) -> Launched:
    """Start `main` in a folder, in a process group of its own."""
    options = options_of(parameters)
    environment = surroundings() | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    return the_launcher().start_apart("main", options, folder, environment, folder / OUTPUT)


@dataclass
class Report:
    """What was done to the studies, and what they had to show for it."""

    injected: Counter[tuple[str, str]] = field(default_factory=Counter)  # (fault, phase)
    completed: int = 0  # studies
    slowest_end_s: float = 0.0  # after SIGINT or SIGTERM
    wrong: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)  # of each completed study

    def total(self, name: str) -> int:
        return sum(len(found[name]) for found in self.findings)

    def as_json(self) -> dict[str, Any]:
        table: dict[str, dict[str, int]] = {}
        for (fault, phase), count in sorted(self.injected.items()):
            table.setdefault(fault, {})[phase] = count
        return {
            "faults": table,
            "faults_injected": self.injected.total(),
            "studies_completed": self.completed,
            "lost": self.total("lost"),
            "duplicates": self.total("twice"),
            "different": self.total("different") + self.total("strange"),
            "runs_left_running": sum(found["running"] for found in self.findings),
            "files_left": self.total("left"),
            "slowest_end_after_a_signal_s": round(self.slowest_end_s, 2),
            "wrong": self.wrong,
        }

    def is_clean(self) -> bool:
        return not self.wrong and not any(any(found.values()) for found in self.findings)


def undisturbed(folder: Path, parameters: Mapping[str, object] = PARAMETERS) -> Held:
    """What a start that nobody disturbs leaves."""
    folder.mkdir()
    status = start(folder, parameters).wait()
    assert status == 0, (folder / OUTPUT).read_text()
    return held(folder)


def disturbed(
    calm: Held,
    folder: Path,
    faults: list[tuple[str, int]],
    seed: int,
    longest_s: float = LONGEST_S,
    parameters: Mapping[str, object] = PARAMETERS,
) -> Report:
    """Inject `faults`, each a name and a signal, into starts of `main`, in fresh folders below
    `folder` whenever a study has completed; then let the last one complete. A fault's name says
    whether the process is meant or, with "group", its whole process group."""
    chance, report = random.Random(seed), Report()
    folder.mkdir()
    study = folder / "0"
    study.mkdir()
    for name, number in faults:
        while True:
            process, after_s = start(study, parameters), chance.uniform(0, longest_s)
            if _inject(process, study, name, number, after_s, report):
                break
            _completed(calm, study, report)
            study = folder / str(report.completed)
            study.mkdir()
    if start(study, parameters).wait() != 0:
        report.wrong.append(f"the last start failed: {_said(study)[-500:]}")
    _completed(calm, study, report)
    return report


def _inject(
    process: Launched, study: Path, name: str, number: int, after_s: float, report: Report
) -> bool:
    """End a start after some seconds; False if it came to its end before."""
    time.sleep(after_s)
    with suppress(ProcessLookupError):
        (os.killpg if "group" in name else os.kill)(process.pid, number)
    began = time.monotonic()
    status = process.wait()
    if status == 0:
        return False
    phases = PHASE.findall(_said(study))
    phase = phases[-1] if phases else "start"
    report.injected[name, phase] += 1
    expected = EXIT.get(signal.Signals(number))
    if expected is None:
        if status != -number:
            report.wrong.append(f"{name} in {phase}: exit status {status}: {_said(study)[-500:]}")
        return True
    took_s = time.monotonic() - began
    report.slowest_end_s = max(report.slowest_end_s, took_s)
    # Before its own handlers are there, a signal ends a process as it ends any other.
    if status not in (expected, -number) or took_s > END_WITHIN_S or "Traceback" in _said(study):
        report.wrong.append(
            f"{name} in {phase}: exit status {status} after {took_s:.1f} s: {_said(study)[-500:]}"
        )
    # What delivers may have the process's last result in hand; on a busy machine, for longer.
    until = time.monotonic() + END_WITHIN_S
    while (running := still_running(study, process.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    if running:
        report.wrong.append(f"{name} in {phase}: {running} runs are still RUNNING")
    return True


def _completed(calm: Held, study: Path, report: Report) -> None:
    found = compare(calm, held(study))
    report.findings.append(found)
    report.completed += 1
    if any(found.values()):
        report.wrong.append(f"study {study.name}: {found}")


def _said(study: Path) -> str:
    path = study / OUTPUT
    return path.read_text(errors="replace") if path.exists() else ""
