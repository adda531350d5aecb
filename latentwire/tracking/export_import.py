"""Copying a finished study from one store into another, by way of a file.

MLflow writes where a run's artifacts are as an absolute place, so a copied store does not open
elsewhere without being changed; what its API gives out and takes in moves. A copy has another run
id than its origin; the origin's is its tag ORIGIN_RUN, by which a second import knows it. A copy
gets its other tags, by which everything finds it, once all that belongs to it is stored: so an
interrupted import leaves nothing that looks whole, KILLED runs without tags, and the next one
completes them. Runs that are computed are written by runs.py alone.
"""

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from mlflow.entities import DatasetInput as MlflowInput
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
    MLFLOW_USER,
)

from latentwire.analysis.atomic_write import replacing
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import read_records
from latentwire.redaction import clean_tags, redact_uri
from latentwire.tracking.archive import (
    ArchivedRun,
    DatasetInput,
    MetricPoint,
    StudyArchive,
    mlflow_input,
    study_writer,
)
from latentwire.tracking.artifacts import list_files, local_artifact
from latentwire.tracking.dataset_inputs import log_inputs
from latentwire.tracking.finished_chunks import finished_chunks
from latentwire.tracking.retries import fail_fast
from latentwire.tracking.runs import (
    CONDITION,
    FINGERPRINT,
    INSTEAD_OF,
    LEVEL,
    MOST_METRICS,
    MOST_PARAMS,
    RECORDS_FILE,
    RECORDS_SHA256,
)
from latentwire.tracking.store import Store

ORIGIN_RUN = "latentwire.origin_run"  # the id that a copied run had where it was computed
BATCH = 64  # runs read ahead of the file; their artifacts lie in a temporary folder meanwhile
SERVER_THREADS = 16  # requests to a server are waited for
ENDED = ("FINISHED", "FAILED", "KILLED")

log = logging.getLogger("latentwire")


@dataclass(frozen=True)
class Transferred:
    """How many runs a transfer wrote, and how many the store held already."""

    written: int
    held: int = 0
    left_out: int = field(default=0, compare=False)  # chunks whose answers cannot be had
    chunks: int = field(default=0, compare=False)  # finished ones among those written
    answers: int = field(default=0, compare=False)  # in them


def export_study(store: Store, path: Path, everything: bool = False) -> Transferred:
    """Write the finished runs of the store's experiment, and the runs above them, to `path`.

    With `everything` also those that FAILED, were KILLED or still run. Raises LatentWireError when
    there is nothing to write, when `path` exists or cannot be written, or when the store or an
    artifact cannot be read; `path` is then not made.
    """
    if path.exists():
        raise LatentWireError(f"{path} exists already: delete it or give another name")
    with _one_sentence("the export stopped"):
        experiment = store.client.get_experiment(store.experiment_id).name
        selected = _selected(store, everything)
        # What was computed again since its answers could not be read is of no use elsewhere.
        replaced = {i for run in selected for i in run.data.tags.get(INSTEAD_OF, "").split(",")}
        runs = _parents_first(run for run in selected if run.info.run_id not in replaced)
        left_out = len(selected) - len(runs)
        if not runs:
            raise LatentWireError(
                f"nothing to export: experiment {experiment} of {redact_uri(store.uri)}"
                " has no finished runs"
            )
        known = {run.info.run_id for run in runs}
        counts: Counter[str] = Counter()

        def read(run: Run) -> tuple[ArchivedRun, dict[str, Path], ExitStack]:
            parent = _parent(run)  # which may have been deleted
            return _read(store, run, parent if parent in known else None)

        with replacing(path) as temporary, study_writer(temporary, experiment) as writer:
            for start in range(0, len(runs), BATCH):
                with ExitStack() as files, _threads(store) as pool:
                    batch = runs[start : start + BATCH]
                    for archived, places, stack in pool.map(read, batch):
                        files.enter_context(stack)
                        if _is_finished_chunk(archived):
                            counts["chunks"] += 1
                            counts["answers"] += _answers(archived, places)
                        writer.add(archived, places)
    return Transferred(len(runs), 0, left_out, counts["chunks"], counts["answers"])


def _is_finished_chunk(run: ArchivedRun) -> bool:
    return run.tags.get(LEVEL) == "chunk" and run.status == "FINISHED"


def _answers(run: ArchivedRun, places: Mapping[str, Path]) -> int:
    """How many answers a finished chunk holds; LatentWireError where they are not what it
    logged."""
    try:
        if RECORDS_FILE not in places:
            raise LatentWireError("they are not in the artifact store")
        digest = hashlib.sha256(places[RECORDS_FILE].read_bytes()).hexdigest()
        if digest != run.tags.get(RECORDS_SHA256):
            raise LatentWireError("they are not those that it logged")
        return len(read_records(places[RECORDS_FILE]))
    except (LatentWireError, OSError) as error:
        raise LatentWireError(
            f"nothing was written, for the answers of chunk run {run.run_id} cannot be had"
            f" ({error}): restore its artifacts, or start its milestone again, which computes them"
            " again, or delete that run"
        ) from error


def import_study(store: Store, study: StudyArchive) -> Transferred:
    """Write the runs of a study that the store does not hold yet.

    Held are a run with the same id or the same ORIGIN_RUN, complete, and a finished chunk of the
    same fingerprint. Raises LatentWireError when the store takes no more; start again to go on.
    """
    with _one_sentence("the import stopped, and goes on where it was when started again"):
        broken = _broken(study)
        runs = [run for run in study.runs if run.run_id not in broken]
        ids, partial = _held(store, runs)
        held = len(ids)

        def write(run: ArchivedRun) -> None:
            parent = ids[run.parent] if run.parent else None
            ids[run.run_id] = _write(store, study, run, parent, partial.get(run.run_id))

        for level in _levels(runs):
            with _threads(store) as pool:
                list(pool.map(write, [run for run in level if run.run_id not in ids]))
    return Transferred(len(runs) - held, held, len(broken))


def _broken(study: StudyArchive) -> set[str]:
    """The finished chunks of an archive whose answers are not there, or not what they logged: they
    would count as finished and hold nothing. A warning names the first."""
    broken: dict[str, str] = {}
    above = {run.parent for run in study.runs}
    for run in study.runs:
        if not _is_finished_chunk(run) or run.run_id in above:
            continue
        with tempfile.TemporaryDirectory() as folder:
            wanted = [path for path in run.artifacts if path == RECORDS_FILE]
            study.unpack(run, Path(folder), wanted)
            try:
                _answers(run, {path: Path(folder) / path for path in wanted})
            except LatentWireError as error:
                broken[run.run_id] = str(error.__cause__)
    if broken:
        run_id, reason = next(iter(broken.items()))
        log.warning(
            "%d finished chunks of the file are left out, for their answers cannot be had (run %s:"
            " %s)",
            len(broken),
            run_id,
            reason,
        )
    return set(broken)


def _selected(store: Store, everything: bool) -> list[Run]:
    """The experiment's runs to export, with every run above them that still exists."""
    wanted = "" if everything else "attributes.status = 'FINISHED'"
    found = {run.info.run_id: run for run in store.search(wanted, [store.experiment_id])}
    missing = {_parent(run) for run in found.values()} - set(found) - {None}
    while missing:
        above = store.by_id([run_id for run_id in missing if run_id])
        found |= {run.info.run_id: run for run in above}
        missing = {_parent(run) for run in above} - set(found) - {None}
    return list(found.values())


def _parent(run: Run) -> str | None:
    return run.data.tags.get(MLFLOW_PARENT_RUN_ID)


def _parents_first(runs: Iterable[Run]) -> list[Run]:
    """The runs by how deep they are, then by age."""
    by_id = {run.info.run_id: run for run in runs}

    def depth(run: Run) -> int:
        above: list[str] = []
        parent = _parent(run)
        while parent is not None and parent in by_id:
            if parent in above:
                raise LatentWireError(f"run {run.info.run_id} is below itself: mend its parent tag")
            above.append(parent)
            parent = _parent(by_id[parent])
        return len(above)

    return sorted(by_id.values(), key=lambda r: (depth(r), r.info.start_time, r.info.run_id))


def _read(
    store: Store, run: Run, parent: str | None
) -> tuple[ArchivedRun, dict[str, Path], ExitStack]:
    """A run with its history, and local files with its artifacts until the stack is closed."""
    run_id, stack = run.info.run_id, ExitStack()
    tags = clean_tags({k: v for k, v in run.data.tags.items() if k != MLFLOW_PARENT_RUN_ID})
    points = [
        MetricPoint(m.key, m.value, m.timestamp, m.step)
        for key in sorted(run.data.metrics)
        for m in store.client.get_metric_history(run_id, key)
    ]
    try:
        artifacts = list_files(store, run)
        places = {a: stack.enter_context(local_artifact(store, run, a)) for a in artifacts}
    except Exception as error:  # every artifact store has failures of its own
        stack.close()
        raise LatentWireError(f"the artifacts of run {run_id} cannot be read: {error}") from error
    archived = ArchivedRun(
        run_id=run_id,
        parent=parent,
        name=run.info.run_name,
        status=run.info.status,
        start_ms=run.info.start_time,
        end_ms=run.info.end_time,
        tags=tags,
        params=run.data.params,
        metrics=tuple(points),
        inputs=tuple(_described(entry) for entry in run.inputs.dataset_inputs),
        artifacts=tuple(artifacts),
    )
    return archived, places, stack


def _described(entry: MlflowInput) -> DatasetInput:
    data, tags = entry.dataset, {tag.key: tag.value for tag in entry.tags}
    return DatasetInput(
        data.name, data.digest, data.source_type, data.source, data.schema, data.profile, tags
    )


def _held(store: Store, runs: Sequence[ArchivedRun]) -> tuple[dict[str, str], dict[str, str]]:
    """What the store holds of `runs`: archived id -> id there, complete runs and partial ones."""
    complete = {run.info.run_id: run.info.run_id for run in store.by_id([r.run_id for r in runs])}
    copies: dict[str, list[Run]] = {}
    for run in store.search(f"tags.`{ORIGIN_RUN}` != ''"):
        copies.setdefault(run.data.tags[ORIGIN_RUN], []).append(run)
    partial: dict[str, str] = {}
    conditions = {run.tags.get(CONDITION, "") for run in runs if run.tags.get(LEVEL) == "chunk"}
    finished = finished_chunks(store, sorted(conditions))
    for run in runs:
        if run.run_id in complete:
            continue
        for copy in copies.get(_origin(run), []):
            done = _is_whole(copy, run)
            (complete if done else partial)[run.run_id] = copy.info.run_id
        if run.tags.get(LEVEL) == "chunk" and run.status == "FINISHED":
            chunks = finished[run.tags.get(CONDITION, "")]
            if there := chunks.get(run.tags.get(FINGERPRINT, "")):
                complete.setdefault(run.run_id, there.run_id)
    return complete, partial


def _origin(run: ArchivedRun) -> str:
    """The id under which a run was computed, however often it has been copied since."""
    return run.tags.get(ORIGIN_RUN, run.run_id)


def _final_status(run: ArchivedRun) -> str:
    """What ran when it was exported will not be ended by anyone where its copy is."""
    return run.status if run.status in ENDED else "KILLED"


def _is_whole(copy: Run, run: ArchivedRun) -> bool:
    """Whether a copy lacks nothing that the archive has.

    Tags are written last: a copy that was begun lacks them. One that has ended is never made to
    run, or be KILLED, again: the archive may be older than what the copy was made from.
    """
    if run.status != "FINISHED" and copy.info.status == "FINISHED":
        return True
    tagged = run.tags.keys() - {ORIGIN_RUN, MLFLOW_PARENT_RUN_ID} <= copy.data.tags.keys()
    ended = copy.info.status in ENDED
    return tagged and ended and (copy.info.status == "FINISHED" or run.status != "FINISHED")


def _levels(runs: Iterable[ArchivedRun]) -> list[list[ArchivedRun]]:
    """Runs that can be written side by side: no run stands with a run above it."""
    depths: dict[str, int] = {}
    levels: list[list[ArchivedRun]] = []
    for run in runs:
        depth = depths[run.run_id] = 1 + depths[run.parent] if run.parent else 0
        if depth == len(levels):
            levels.append([])
        levels[depth].append(run)
    return levels


def _write(
    store: Store, study: StudyArchive, run: ArchivedRun, parent: str | None, copy: str | None
) -> str:
    """Write one run, or complete the `copy` that an interrupted import left; its id."""
    client = store.client
    if copy is None:
        first = {ORIGIN_RUN: _origin(run)}
        first |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        first |= {MLFLOW_USER: run.tags[MLFLOW_USER]} if MLFLOW_USER in run.tags else {}
        created = client.create_run(store.experiment_id, run.start_ms, first, run.name)
        copy = str(created.info.run_id)
    try:
        _fill(store, study, run, copy)
    except BaseException:
        # It lacks tags, by which the next import knows that it is to be completed.
        with suppress(Exception), fail_fast():
            client.set_terminated(copy, "KILLED")
        raise
    return copy


def _fill(store: Store, study: StudyArchive, run: ArchivedRun, copy: str) -> None:
    """Write all of a run into its copy."""
    client = store.client

    def log_all(kind: str, values: Sequence[Any], most: int) -> None:
        for start in range(0, len(values), most):
            client.log_batch(copy, **{kind: values[start : start + most]})

    points = [Metric(p.key, p.value, p.timestamp_ms, p.step) for p in run.metrics]
    log_all("metrics", points, MOST_METRICS)
    log_all("params", [Param(key, value) for key, value in run.params.items()], MOST_PARAMS)
    if run.inputs:
        log_inputs(client, copy, [mlflow_input(entry) for entry in run.inputs])
    if run.artifacts:
        with tempfile.TemporaryDirectory() as folder:
            study.unpack(run, Path(folder))
            client.log_artifacts(copy, folder)
    # Last, since they say which process writes the run: it would be taken for one that is gone.
    kept = {k: v for k, v in run.tags.items() if k not in (ORIGIN_RUN, MLFLOW_RUN_NAME)}
    if MLFLOW_RUN_NOTE in kept:  # its pictures are this run's
        kept[MLFLOW_RUN_NOTE] = kept[MLFLOW_RUN_NOTE].replace(run.run_id, copy)
    log_all("tags", [RunTag(k, v) for k, v in kept.items()], MOST_PARAMS)
    client.set_terminated(copy, _final_status(run), run.end_ms)


@contextmanager
def _threads(store: Store) -> Iterator[ThreadPoolExecutor]:
    """Threads for a server; one for a local database, whose writers only wait for each other.
    What has not begun is dropped when the block is left early."""
    pool = ThreadPoolExecutor(SERVER_THREADS if store.uri.startswith("http") else 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_sentence(what: str) -> Iterator[Any]:
    """A store or disk that fails ends in a sentence that says what stopped."""
    try:
        yield
    except MlflowException as error:
        raise LatentWireError(f"{what}: {error.message}") from error
    except (OSError, requests.RequestException) as error:
        raise LatentWireError(f"{what}: {error}") from error
