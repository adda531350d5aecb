"""Evaluating what a grid misses, in this process or in workers. It brings models and engine, which
take seconds to import: a grid imports it once something is missing."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from mlflow.entities import Run

from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.errors import LatentWireError
from latentwire.evaluation import engine
from latentwire.evaluation.baselines_batched import BatchedModels
from latentwire.evaluation.progress import Progress
from latentwire.evaluation.record import Record
from latentwire.evaluation.worker_pool import Setup, Work, WorkerPool
from latentwire.parameters import AUTO
from latentwire.session.chunk_queue import (
    Queue,
    WorkItem,
    WorkResult,
    merge_results,
    shared_out,
    work_items,
)
from latentwire.session.condition_plan import ConditionPlan
from latentwire.session.open_grid import OpenGrid
from latentwire.session.progress_lines import shown_progress
from latentwire.session.session import Session
from latentwire.tasks.registry import task_of_records
from latentwire.terminal import tell
from latentwire.tracking.finished_chunks import Span, chunk_name, parse_chunk
from latentwire.tracking.outbox import Outbox, PendingChunk, pending_chunk
from latentwire.tracking.results_reader import Unreadable
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT, IDENTITY, INSTEAD_OF

log = logging.getLogger("latentwire")

MOST_REPLACED = 200  # run ids in a tag
OTHERS_POLL_S = 2.0  # between looks at what other processes are computing


class Evaluator:
    """Evaluates units of a session on its device; buffers stay from one to the next."""

    def __init__(self, session: Session) -> None:
        self._study = session
        self._work = engine.Workspace(session.loaded)
        self._models: dict[str, BatchedModels] = {}  # of each set: questions lend each other

    def __call__(self, unit: WorkItem, progress: Progress) -> WorkResult:
        dataset, part = unit.setting.dataset, slice(*unit.span)
        numbers = dict.fromkeys(condition.donor for condition in unit.conditions)
        if dataset not in self._models:
            self._models[dataset] = BatchedModels(self._work, self._study.batch_size)
        began = time.perf_counter()
        records = engine.evaluate(
            self._study.loaded,
            unit.conditions,
            self._study.asked(dataset)[part],
            {number: self._study.donors(dataset, number)[part] for number in numbers},
            self._study.batch_size,
            progress,
            work=self._work,
            models=self._models[dataset],
        )
        return WorkResult(records, time.perf_counter() - began)


def open_evaluator(session: Session, device: str) -> Work[WorkItem, WorkResult]:
    """The evaluator of a worker on `device`; see `Session.for_worker`."""
    return Evaluator(session.on(device))


def worker_devices(session: Session) -> list[str]:
    """A device for each worker that the parameter `workers` asks for.

    Raises LatentWireError for more workers than there are GPUs.
    """
    wanted = session.values.get("workers", 1)
    if session.device != "cuda":
        count = 1 if wanted == AUTO else wanted
        if count > 1 and session.device != "cpu":
            raise LatentWireError(
                f"workers={count}: device={session.device} is one device; take device=cuda for all"
                " GPUs, or workers=1"
            )
        return [session.device] * count
    there = torch.cuda.device_count()
    count = there if wanted == AUTO else wanted
    if count > there:
        raise LatentWireError(f"workers={count}: this machine has {there} GPUs, one a worker")
    return ["cuda"] if count == 1 else [f"cuda:{number}" for number in range(count)]


def compute(grids: Sequence[OpenGrid], lost: Sequence[Unreadable] = ()) -> None:
    """Evaluate what grids of one study miss: conditions that lack the same examples go together.

    Returns once every chunk is in the store, whichever process computed it. A condition of several
    grids is the first one's. Finished runs that are `lost` do not count.
    """
    homes: dict[str, tuple[ConditionPlan, OpenGrid]] = {}
    for grid in grids:
        for plan in grid.plans:
            homes.setdefault(plan.fingerprint, (plan, grid))
    plans = [plan for plan, _ in homes.values()]
    missing = sum(plan.examples_missing for plan in plans)
    units = work_items([(plan.setting, plan.condition, plan.missing) for plan in plans])
    session, leases_of = grids[0].session, grids[0].run.leases
    name = ", ".join(grid.run.name for grid in grids)
    with (
        shown_progress(missing, name, "answer") as bar,
        leases_of.until_done() as leases,
        Outbox(session.store, expecting=True) as outbox,
        _evaluating(session, bar.update) as evaluate,
    ):
        unreadable = {entry.run.info.run_id for entry in lost}
        queue = Queue(session.store, leases, units, unreadable)
        while True:
            for unit, done in evaluate(queue):
                letters, claimed = [], queue.keeps(unit)
                for part in queue.still_wanted(unit):
                    cut = done.cut(unit.span, part.span)
                    for condition in part.conditions:
                        home = homes[unit.setting.condition_fingerprint(condition)]
                        answers = cut.records[condition], cut.seconds / len(unit.conditions)
                        letters.append(_letter(*home, part, *answers, claimed, lost))
                queue.mark_submitted(unit, outbox.enqueue(letters) if letters else None)
                log.info(
                    "%s: %s %s, %d conditions, %.1f s",
                    name,
                    unit.setting.dataset,
                    chunk_name(*unit.span),
                    len(unit.conditions),
                    done.seconds,
                )
            if not queue.units:
                return
            log.info("%s: other processes have the last %d chunks", name, len(queue.units))
            time.sleep(OTHERS_POLL_S)


@contextmanager
def _evaluating(
    session: Session, progress: Callable[[int], object]
) -> Iterator[Callable[[Queue], Iterator[tuple[WorkItem, WorkResult]]]]:
    """What evaluates the units that a queue gives: this process, or workers of it."""
    devices = worker_devices(session)
    if len(devices) == 1:
        evaluator = Evaluator(session)

        def here(queue: Queue) -> Iterator[tuple[WorkItem, WorkResult]]:
            while unit := queue.take():
                yield unit, evaluator(unit, progress)

        yield here
        return
    tell(f"{len(devices)} workers: {', '.join(devices)}")
    setup: Setup[WorkItem, WorkResult] = partial(open_evaluator, session.for_worker())
    with WorkerPool(setup, devices, progress) as crew:

        def by_workers(queue: Queue) -> Iterator[tuple[WorkItem, WorkResult]]:
            count = len(devices)

            def cut(unit: WorkItem) -> list[WorkItem]:
                return shared_out(unit, queue.units, count)

            return crew.map_split(queue.take, cut, merge_results)

        yield by_workers


def _letter(
    plan: ConditionPlan,
    grid: OpenGrid,
    unit: WorkItem,
    records: Sequence[Record],
    seconds: float,
    claimed: bool,
    lost: Sequence[Unreadable],
) -> PendingChunk:
    """A chunk's results, as they go to the store."""
    chunk = chunk_name(*unit.span)
    tags = {
        **grid.run.writer.common_tags,
        FINGERPRINT: plan.setting.chunk_fingerprint(plan.condition, *unit.span),
        CONDITION: plan.fingerprint,
        CHUNK: chunk,
        IDENTITY: plan.setting.identity(),
    }
    if replaced := [entry.run.info.run_id for entry in lost if _held(entry.run, plan, unit.span)]:
        tags[INSTEAD_OF] = ",".join(replaced[:MOST_REPLACED])
    return pending_chunk(
        grid.session.store,
        f"{plan.setting.dataset} {plan.condition.label} {chunk}",
        grid.condition_runs[plan.fingerprint],
        plan.params,
        tags,
        {**chunk_metrics(records, task_of_records(plan.setting.dataset)), "seconds": seconds},
        records,
        seconds,
        claimed=claimed,
    )


def _held(run: Run, plan: ConditionPlan, span: Span) -> bool:
    """Whether a chunk run was to hold some of a span's examples under the plan's condition."""
    tags = run.data.tags
    if tags.get(CONDITION) != plan.fingerprint:
        return False
    try:
        start, stop = parse_chunk(tags.get(CHUNK, ""))
    except LatentWireError:
        return False
    return start < span[1] and span[0] < stop
