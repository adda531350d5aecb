"""Entry points run as users run them: processes of their own, in a folder of their own."""

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path

import pandas as pd
from filelock import FileLock
from launched import Launched, options_of, surroundings, the_launcher
from mlflow import MlflowClient
from mlflow.entities import Run

from latentwire.tracking.store import _make_database

ROOT = Path(__file__).parents[1]
URI = "sqlite:///mlflow.db"


@cache
def _empty_database() -> bytes:
    """A store's file that holds nothing yet: MLflow takes seconds to make one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        _make_database(f"sqlite:///{path}")
        return path.read_bytes()


def empty_store(folder: Path) -> Path:
    """The file of a store that holds nothing yet, in a folder."""
    path = folder / "mlflow.db"
    path.write_bytes(_empty_database())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (f"{folder}/mlruns/0",))
    return path


def _heed_interrupts() -> None:
    """As in a terminal: a shell has what it starts with `&` ignore SIGINT, and so all below it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Project:
    """A folder with a store of its own, and the project's entry points to start in it."""

    def __init__(self, folder: Path, uri: str = URI, database: Path | None = None) -> None:
        """`database` is the SQLite file of the server that `uri` names."""
        self.folder, self.uri = folder, uri
        self.database = database or folder / "mlflow.db"
        self.env = surroundings() | {"MLFLOW_TRACKING_URI": uri}

    @classmethod
    def with_store(cls, folder: Path) -> "Project":
        """One whose store is there, and empty."""
        empty_store(folder)
        return cls(folder)

    def start(self, entry: str, **parameters: object) -> "subprocess.Popen[str] | Launched":
        """Start an entry point and return at once."""
        options = options_of(parameters)
        launcher = the_launcher()
        if launcher.knows(self.env):
            return launcher.start(entry, options, self.folder, self.env)
        return subprocess.Popen(
            [sys.executable, str(ROOT / "entry_points" / "run.py"), entry, *options],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_interrupts,
        )

    def halt(self, process: subprocess.Popen[str]) -> None:
        """Halt a process at an instant when it does not lock the project's SQLite file, even to
        read: all others would wait for that lock, and give up."""
        while True:
            process.send_signal(signal.SIGSTOP)
            assert process.poll() is None, process.communicate()
            try:
                with sqlite3.connect(self.folder / "mlflow.db", timeout=0.2) as database:
                    database.execute("BEGIN EXCLUSIVE")
                    database.rollback()
                return
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.01)

    def run(self, entry: str, **parameters: object) -> subprocess.CompletedProcess[str]:
        """Run an entry point to its end; only one that hangs takes an hour, on however busy a
        machine."""
        process = self.start(entry, **parameters)
        out, err = process.communicate(timeout=3600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, entry: str, **parameters: object) -> str:
        """Run an entry point that must succeed; what it printed."""
        done = self.run(entry, **parameters)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def runs(self, level: str, status: str = "FINISHED") -> list[Run]:
        """The store's runs of a level with a status."""
        uri = self.uri
        if uri == URI:
            uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        # The entry point may be making the store at this moment: it holds this lock while it does.
        with FileLock(self.folder / "mlflow.db.lock"):
            client = MlflowClient(uri)
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

    def count(self, level: str, status: str = "%") -> int:
        """How many runs of a level there are, with a status or whatever became of them. For loops
        that wait: asked past MLflow, which takes much longer to say so."""
        query = (
            "SELECT COUNT(*) FROM tags JOIN runs USING (run_uuid)"
            " WHERE key = 'latentwire.level' AND value = ? AND status LIKE ?"
        )
        with closing(sqlite3.connect(self.database, timeout=60)) as database:
            return int(database.execute(query, (level, status)).fetchone()[0])

    def left_running(self, *levels: str) -> list[Run]:
        """The runs of some levels that are still RUNNING."""
        return [run for level in levels for run in self.runs(level, "RUNNING")]

    def begins_to_wait(self, process: subprocess.Popen[str], seconds: float) -> None:
        """Return when a second milestone is open, and has had so long to do what it should not."""
        while self.count("milestone", "RUNNING") < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        time.sleep(seconds)
        assert process.poll() is None, "it did not wait for what the first one has in hand"

    def numbers(self) -> dict[str, tuple[float, ...]]:
        """Chunk fingerprint -> its metrics that do not depend on the clock."""
        runs = self.runs("chunk")
        numbers = {
            run.data.tags["latentwire.fingerprint"]: tuple(
                run.data.metrics[name] for name in ("examples", "correct", "wire_bytes_mean")
            )
            for run in runs
        }
        assert len(numbers) == len(runs), "a chunk was computed twice"
        return numbers


def runs_of(milestone: str) -> list[Run]:
    """The milestone's runs, the newest first."""
    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "latentwire"]
    named = f"tags.`latentwire.level` = 'milestone' and tags.`latentwire.milestone` = '{milestone}'"
    return client.search_runs([experiment.experiment_id], named)


def table_of(milestone: str, name: str) -> pd.DataFrame:
    """A CSV artifact of the milestone's newest run."""
    folder = Path(runs_of(milestone)[0].info.artifact_uri.removeprefix("file://"))
    return pd.read_csv(folder / name)
