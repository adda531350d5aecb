"""What a study's store and folder hold, to be compared with those of an undisturbed run."""

import hashlib
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

FINGERPRINT = "latentwire.fingerprint"
CLOCK = ("seconds", "_ms")  # in the names of metrics that depend on the clock


@dataclass(frozen=True)
class Held:
    """Results by kind and fingerprint, how often each is there, and what should not be there."""

    results: dict[tuple[str, str], Any]
    times: Counter[tuple[str, str]]
    running: int
    left: list[str]  # letters and half-written files


def held(folder: Path, uri: str | None = None) -> Held:
    """What is finished in the store of a project's folder.

    A chunk's result is its metrics, parameters and records; a codec's measurement its metrics; a
    condition's the metrics of its newest run, which sums up all its chunks.
    """
    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    results: dict[tuple[str, str], Any] = {}
    times: Counter[tuple[str, str]] = Counter()
    for level in ("chunk", "codec", "condition"):
        for run in reversed(runs(client, level, "FINISHED")):  # the newest last
            key = level, run.data.tags[FINGERPRINT]
            times[key] += level != "condition"  # each milestone run sums up anew
            results[key] = result(client, run, level)
    calibrations = runs(client, "milestone", "FINISHED")
    for run in calibrations:
        if name := run.data.tags.get("latentwire.calibration"):
            results["calibration", name] = None
            times["calibration", name] += 1
    running = [run for level in ("chunk", "condition", "milestone", "codec")
               for run in runs(client, level, "RUNNING")]  # fmt: skip
    found = sorted((folder / "outbox").rglob("*.json*"))
    left = [str(path.relative_to(folder)) for path in found]
    return Held(results, times, len(running), left)


def result(client: MlflowClient, run: Run, level: str) -> Any:
    metrics = {k: v for k, v in run.data.metrics.items() if not any(part in k for part in CLOCK)}
    # NaN is a number here like any other.
    content: list[Any] = [json.dumps(metrics, sort_keys=True)]
    if level == "chunk":
        path = Path(client.download_artifacts(run.info.run_id, "records.jsonl"))
        content += [run.data.params, hashlib.sha256(path.read_bytes()).hexdigest()]
    return content


def runs(client: MlflowClient, level: str, status: str) -> list[Run]:
    """All runs of a level with a status, newest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            experiments,
            f"tags.`latentwire.level` = '{level}' and attributes.status = '{status}'",
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def still_running(folder: Path, pid: int) -> int:
    """How many runs of a process are RUNNING at this moment, by the database itself."""
    path = folder / "mlflow.db"
    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=30) as database:
        try:
            (count,) = database.execute(
                "select count(*) from runs join tags using (run_uuid)"
                " where status = 'RUNNING' and key = 'latentwire.process' and value like ?",
                (f"{pid}@%",),
            ).fetchone()
        except sqlite3.OperationalError:  # its tables are not made yet
            return 0
    return int(count)


def compare(calm: Held, disturbed: Held) -> dict[str, Any]:
    """What a disturbed study lost, has twice or has otherwise; all empty where it is as it should
    be."""
    both = calm.results.keys() & disturbed.results.keys()
    return {
        "lost": sorted(map(str, calm.results.keys() - disturbed.results.keys())),
        "strange": sorted(map(str, disturbed.results.keys() - calm.results.keys())),
        "twice": sorted(str(key) for key, count in disturbed.times.items() if count > 1),
        "different": sorted(
            str(key) for key in both if calm.results[key] != disturbed.results[key]
        ),
        "running": disturbed.running,
        "left": disturbed.left,
    }
