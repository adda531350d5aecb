"""How long reading a large tracking store takes: the resume check, and M4's table.

    PYTHONPATH=.:C2C python benchmarks/store_read.py --runs 10000
    PYTHONPATH=.:C2C python benchmarks/store_read.py --runs 10000 --server 2
    PYTHONPATH=.:C2C python benchmarks/store_read.py --runs 10000 \
        --uri http://127.0.0.1:5000 --database postgresql://... --artifacts FOLDER

Without `--uri` a SQLite store in a temporary folder is filled and read; with `--server`, through an
`mlflow server` of so many processes, which is started. With `--uri`, a server's: runs are put into
its `--database`, artifacts into its `--artifacts-destination`, and all reading goes through the
server. `m4 one by one` asks for page after page and for each chunk run's own file, as was done at
first; both tables must be equal. Filling inserts rows by the models of MLflow's own SQL store, one
statement a table, since its API takes five requests a run; what is inserted is what RunWriter
writes (a test compares the two).
"""

import argparse
import cProfile
import hashlib
import os
import platform
import pstats
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import psutil
from mlflow import MlflowClient
from mlflow.store.entities import PagedList
from mlflow.store.tracking.dbmodels.models import (
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_USER,
)
from sqlalchemy import create_engine, insert

from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.curve import build_curve
from latentwire.analysis.noninferiority import DEFAULT_MARGIN_POINTS
from latentwire.channel.registry import CODECS, needs_calibration
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, record_lines
from latentwire.milestones import m4
from latentwire.milestones.budget_curves import load_curve
from latentwire.session.condition_plan import ConditionPlan
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import Setting
from latentwire.tasks.registry import task_of_records
from latentwire.tracking import results_reader
from latentwire.tracking import store as store_module
from latentwire.tracking.finished_chunks import chunk_name, finished_chunks
from latentwire.tracking.kept_together import keep_together
from latentwire.tracking.processes import own_process
from latentwire.tracking.results_reader import chunks_from, results
from latentwire.tracking.runs import (
    CHUNK,
    CODE_SHA,
    CONDITION,
    FINGERPRINT,
    HOST,
    IDENTITY,
    LEVEL,
    MILESTONE,
    PROCESS,
    PROCESS_ID,
    RECORDS_FILE,
    RECORDS_SHA256,
    SOURCE,
    RunWriter,
    process_name,
)
from latentwire.tracking.server_client import ServerClient
from latentwire.tracking.store import Store, http_get, is_server, open_store

SETTING = Setting("synthetic", "0" * 64, "synthetic", "1" * 64, 1, "bfloat16", 42)
MORE_TAGS = 10  # beside those that RunWriter sets, as schedulers and users add them
SECONDS = 1.5
Seconds = dict[str, list[float]]  # as `clocks` has them
BATCH = 500  # runs inserted at once
WORDS = ("the", "answer", "is", "clear", "from", "question", "about", "rock", "and", "river")


@dataclass(frozen=True)
class Shape:
    """What the synthetic study looks like."""

    runs: int  # chunk runs
    conditions: int
    records: int  # a chunk run

    @property
    def chunks(self) -> int:
        """Of one condition."""
        return self.runs // self.conditions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="finished chunk runs")
    parser.add_argument("--conditions", type=int, default=100)
    parser.add_argument("--records", type=int, default=20, help="records of a chunk run")
    parser.add_argument("--server", type=int, help="start one of so many processes")
    parser.add_argument("--uri", help="a tracking server; else SQLite in a temporary folder")
    parser.add_argument("--database", help="the server's --backend-store-uri")
    parser.add_argument("--artifacts", type=Path, help="the server's --artifacts-destination")
    parser.add_argument("--profile", action="store_true", help="where M4's time goes")
    options = parser.parse_args()
    shape = Shape(options.runs, options.conditions, options.records)
    if options.uri and not (options.database and options.artifacts):
        parser.error("--uri needs --database and --artifacts")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.chdir(folder)  # where a local store keeps its artifacts
        database = options.database or f"sqlite:///{folder}/mlflow.db"
        uri, artifacts = options.uri, options.artifacts
        if options.server:
            artifacts = Path(folder) / "served"
            uri = stack.enter_context(server(database, artifacts, options.server))
        os.environ["MLFLOW_TRACKING_URI"] = uri or database
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # as entry points do
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        store = open_store(f"synthetic {shape.runs} {shape.records} {uuid.uuid4().hex[:6]}")
        seconds: Seconds = {}
        prints = timed(seconds, "fill", lambda: fill(store, database, artifacts, shape))
        read(store, prints, seconds, options.profile)
        table = pd.DataFrame(seconds, ["wall", "CPU here", "CPU of its processes"]).T.round(2)
    print(f"{shape}, {store.uri.partition(':')[0]}, {platform.machine()}, {os.cpu_count()} cores")
    print(table.to_string())


@contextmanager
def server(database: str, artifacts: Path, workers: int) -> Iterator[str]:
    """The address of an `mlflow server` of this process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--serve-artifacts", "--artifacts-destination", str(artifacts)]
    command += ["--port", str(port), "--workers", str(workers)]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    started = psutil.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    uri = f"http://127.0.0.1:{port}"
    try:
        while started.poll() is None:
            with suppress(LatentWireError):
                http_get(uri)
                break
            time.sleep(0.5)
        yield uri
    finally:
        for process in [*started.children(recursive=True), started]:
            process.kill()


def read(store: Store, prints: list[str], seconds: Seconds, profile: bool) -> None:
    """Time what resuming and M4 read; `prints` are the conditions' fingerprints."""
    own = Store(OneExperiment(store), store.uri, store.experiment_id)  # type: ignore[arg-type]
    timed(seconds, "resume check", lambda: finished_chunks(store, prints))
    if profile:
        with cProfile.Profile() as profiler:
            load_curve(own, ("local",), SETTING.pair, None)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)
        return

    def curve() -> pd.DataFrame:
        return load_curve(own, ("local",), SETTING.pair, None)

    found = timed(seconds, "m4 load_curve", curve)
    if is_server(store.uri):
        with one_by_one():
            pd.testing.assert_frame_equal(found, timed(seconds, "m4 one by one", curve))
    chunks = timed(seconds, "  of it: search", lambda: chunks_from(own, "local", SETTING.pair))
    answers = timed(seconds, "  of it: records", lambda: results(own, chunks))
    timed(seconds, "  of it: table", lambda: build_curve(answers))
    values = {"pair": SETTING.pair, "dataset": None, "data_dir": None, "source": "local"}
    values |= {"margin_points": DEFAULT_MARGIN_POINTS, "output_dir": None}
    timed(seconds, "m4 whole", lambda: m4.run_on(own, values))


class OneExperiment:
    """A client that sees one experiment, so that a store can be measured more than once."""

    def __init__(self, store: Store) -> None:
        self.store = store

    _tracking_client = None  # the database behind it, which holds them all

    def search_experiments(self, *_: Any) -> PagedList[Any]:
        return PagedList([self.store.client.get_experiment(self.store.experiment_id)], None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store.client, name)


@contextmanager
def one_by_one() -> Iterator[None]:
    """Page after page, each read by MLflow, and each chunk run's own file."""
    with (
        patch.object(results_reader, "kept_together", lambda *_: {}),
        patch.object(store_module, "is_server", lambda uri: False),
        patch.object(ServerClient, "search_runs", MlflowClient.search_runs),
    ):
        yield


def timed(seconds: Seconds, name: str, work: Callable[[], Any]) -> Any:
    """What `work` returns; its time goes to `seconds`."""
    began = clocks()
    result = work()
    seconds[name] = [after - before for before, after in zip(began, clocks(), strict=True)]
    print(f"{name}: {seconds[name][0]:.2f} s", flush=True)
    return result


def clocks() -> list[float]:
    """Wall time; CPU seconds of this process, and of those that it started."""
    below = psutil.Process().children(recursive=True)
    used = sum(sum(process.cpu_times()[:2]) for process in below)
    return [time.perf_counter(), time.process_time(), used]


def fill(store: Store, database: str, artifacts: Path | None, shape: Shape) -> list[str]:
    """Put a finished study into the store; the fingerprints of its conditions."""
    writer = RunWriter(store, {MILESTONE: "m2", CODE_SHA: "0" * 40, SOURCE: "local"})
    milestone = writer.start("m2 synthetic", "milestone", None, {}, {})
    plans = [make_plan(condition, shape) for condition in conditions(shape.conditions)]
    location = store.client.get_experiment(store.experiment_id).artifact_location
    root = artifacts / location.partition(":/")[2].strip("/") if artifacts else Path(location)
    rows: dict[Any, list[dict[str, Any]]] = {}
    engine = create_engine(database)
    count = 0
    for plan in plans:
        tags = {FINGERPRINT: plan.fingerprint, CONDITION: plan.fingerprint}
        parent = writer.start(plan.condition.label, "condition", milestone, plan.params, tags)
        texts = []
        for chunk in range(shape.chunks):
            span = (chunk * shape.records, (chunk + 1) * shape.records)
            run = chunk_run(plan, span, parent, root)
            texts.append((root / run.run_id / "artifacts" / RECORDS_FILE).read_text())
            for model, values in run_rows(run, int(store.experiment_id), location):
                rows.setdefault(model, []).append(values)
            count += 1
            if count % BATCH == 0:
                _insert(engine, rows)
        if artifacts:
            keep_together(writer, parent, texts)
        writer.finish(parent, {"examples": shape.chunks * shape.records})
    _insert(engine, rows)
    writer.finish(milestone)
    return [plan.fingerprint for plan in plans]


def _insert(engine: Any, rows: dict[Any, list[dict[str, Any]]]) -> None:
    with engine.begin() as connection:
        for model in (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric):
            if rows.get(model):
                connection.execute(insert(model), rows.pop(model))


def conditions(number: int) -> list[Condition]:
    """So many C2C conditions, `matched` and `deranged` in turn."""
    codecs = [name for name in CODECS if not needs_calibration(name)]
    ratios = [1.0, *(step / 64 for step in range(63, 0, -1))]
    channels = [
        Channel(codec, ratio, order)
        for ratio, codec, order in product(ratios, codecs, ("front", "back"))
        if ratio < 1 or order == "front"
    ]
    both = [Condition("c2c", c, control) for c in channels for control in ("matched", "deranged")]
    assert number <= len(both), f"at most {len(both)} conditions"
    return both[:number]


def make_plan(condition: Condition, shape: Shape) -> ConditionPlan:
    total = shape.chunks * shape.records
    return ConditionPlan(SETTING, condition, total, total, ())


@dataclass(frozen=True)
class ChunkRun:
    """A chunk run as the store will hold it; its records are written already."""

    run_id: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    start_ms: int
    end_ms: int


def chunk_run(plan: ConditionPlan, span: tuple[int, int], parent: str, root: Path) -> ChunkRun:
    """What RunWriter.write_chunk would leave behind, with its records below `root`."""
    run_id = uuid.uuid4().hex
    records = list(make_records(plan, span))
    path = root / run_id / "artifacts" / RECORDS_FILE
    path.parent.mkdir(parents=True)
    path.write_text(record_lines(records), encoding="utf-8")
    name = f"{SETTING.dataset} {plan.condition.label} {chunk_name(*span)}"
    now = int(time.time() * 1000)
    tags = {
        MILESTONE: "m2",
        CODE_SHA: "0" * 40,
        SOURCE: "local",
        LEVEL: "chunk",
        HOST: platform.node(),
        PROCESS: process_name(),
        PROCESS_ID: own_process(),
        MLFLOW_USER: os.environ.get("USER", "unknown"),
        MLFLOW_SOURCE_NAME: "latentwire",
        MLFLOW_PARENT_RUN_ID: parent,
        MLFLOW_RUN_NAME: name,
        FINGERPRINT: SETTING.chunk_fingerprint(plan.condition, *span),
        CONDITION: plan.fingerprint,
        CHUNK: chunk_name(*span),
        IDENTITY: SETTING.identity(),
        RECORDS_SHA256: hashlib.sha256(path.read_bytes()).hexdigest(),
        **{f"more.{number}": f"value {number}" for number in range(MORE_TAGS)},
    }
    metrics = {**chunk_metrics(records, task_of_records(SETTING.dataset)), "seconds": SECONDS}
    return ChunkRun(run_id, name, plan.params, tags, metrics, now - 1500, now)


def make_records(plan: ConditionPlan, span: tuple[int, int]) -> Iterator[Record]:
    """Seeded answers of about 400 bytes a line, right more often under `matched`."""
    right = 0.6 if plan.condition.control == "matched" else 0.3
    draw = random.Random(f"{plan.fingerprint} {span}")
    for index in range(*span):
        answer = "ABCD"[index % 4]
        predicted = answer if draw.random() < right else draw.choice("ABCD")
        donor = (index + 1) % plan.examples_total
        deranged = plan.condition.control == "deranged"
        yield Record(
            example_id=f"synthetic:{index:06d}",
            index=index,
            answer=answer,
            predicted=predicted,
            correct=predicted == answer,
            prompt_tokens=120,
            generated_tokens=11,
            wire_bytes=100_000 + index,
            output=f"{predicted}. " + " ".join(draw.choice(WORDS) for _ in range(20)),
            donor_id=f"synthetic:{donor:06d}" if deranged else None,
            donor_answer="ABCD"[donor % 4] if deranged else None,
            elements=737_280,
        )


def run_rows(run: ChunkRun, experiment: int, location: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The rows of MLflow's tables that make up a FINISHED run."""
    yield (
        SqlRun,
        {
            "run_uuid": run.run_id,
            "name": run.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": "FINISHED",
            "start_time": run.start_ms,
            "end_time": run.end_ms,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": f"{location}/{run.run_id}/artifacts",
            "experiment_id": experiment,
        },
    )
    for key, text in run.tags.items():
        yield SqlTag, {"run_uuid": run.run_id, "key": key, "value": text}
    for key, text in run.params.items():
        yield SqlParam, {"run_uuid": run.run_id, "key": key, "value": text}
    for key, value in run.metrics.items():
        metric = {
            "run_uuid": run.run_id,
            "key": key,
            "value": float(value),
            "timestamp": run.end_ms,
            "step": 0,
            "is_nan": False,
        }
        yield SqlMetric, metric
        yield SqlLatestMetric, metric


if __name__ == "__main__":
    main()
