"""Workers: a process a device, each with the pair in its memory, taking tasks from one queue.

A worker that dies gives its task back to the others and is replaced. Tasks and results are pickled
between a process and its own children, and go nowhere else.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from latentwire.errors import LatentWireError
from latentwire.evaluation.progress import Progress
from latentwire.terminal import prepare_output

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_WORKER_DEATHS = 2  # of workers over one task
_SHUTDOWN_TIMEOUT_S = 2.0
# What a worker on a CPU needs besides, and imports late.
PRELOADED = ("latentwire.evaluation.engine", "transformers.models.auto.tokenization_auto")

log = logging.getLogger("latentwire")


Work = Callable[[Task, Progress], Result]  # what a worker does with a task, telling of progress
Setup = Callable[[str], Work[Task, Result]]  # device -> what to do; picklable


@dataclass
class _Worker(Generic[Task]):
    device: str
    process: BaseProcess
    connection: Connection
    task: Task | None = None


class WorkerPool(Generic[Task, Result]):
    """Workers on `devices`; `setup` is called in each of them with its device."""

    def __init__(
        self,
        setup: Setup[Task, Result],
        devices: Sequence[str],
        progress: Progress = lambda done: None,
    ) -> None:
        self._setup = setup
        self._devices = devices
        self._progress = progress
        self._workers: list[_Worker[Task]] = []

    def __enter__(self) -> Self:
        self._workers = [self._start(device) for device in self._devices]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.connection.close()  # which an idle one ends by
            if worker.task is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_SHUTDOWN_TIMEOUT_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def map(self, take: Callable[[], Task | None]) -> Iterator[tuple[Task, Result]]:
        """Tasks and their results as they come, until `take` gives no more and all are done.

        `take` is called when a worker is free. Raises what a task raises, and LatentWireError for
        a task over which workers died MAX_WORKER_DEATHS times.
        """
        back: deque[Task] = deque()
        deaths: dict[int, int] = {}  # by the task's identity, which `back` and workers keep alive
        over = False
        while True:
            for worker in self._workers:
                if worker.task is None and not (over and not back):
                    task = back.popleft() if back else take()
                    if task is None:
                        over = True
                    else:
                        self._give(worker, task)
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            for ready in wait([worker.connection for worker in busy]):
                worker = next(w for w in busy if w.connection is ready)
                task = worker.task
                assert task is not None
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    deaths[id(task)] = deaths.get(id(task), 0) + 1
                    self._replace(worker, deaths[id(task)])
                    back.append(task)
                    continue
                if kind == "progress":
                    self._progress(content)
                elif kind == "error":
                    raise content
                else:
                    worker.task = None
                    over = False  # `take` may have waited for this
                    yield task, content

    def map_split(
        self,
        take: Callable[[], Task | None],
        cut: Callable[[Task], Sequence[Task]],
        join: Callable[[Sequence[Result]], Result],
    ) -> Iterator[tuple[Task, Result]]:
        """`map`, with each task done as the parts that `cut` makes of it, whoever does them; what
        they gave is joined in their order. Parts are objects of their own."""
        waiting: deque[Task] = deque()
        wholes: dict[int, tuple[Task, list[Task]]] = {}  # by the part's identity
        results: dict[int, Result] = {}

        def take_part() -> Task | None:
            if not waiting:
                task = take()
                if task is None:
                    return None
                parts = [*cut(task)]
                wholes.update((id(part), (task, parts)) for part in parts)
                waiting.extend(parts)
            return waiting.popleft()

        for part, result in self.map(take_part):
            results[id(part)] = result
            task, parts = wholes[id(part)]
            if all(id(one) in results for one in parts):
                yield task, join([results.pop(id(one)) for one in parts])
                for one in parts:
                    del wholes[id(one)]

    def _give(self, worker: _Worker[Task], task: Task) -> None:
        worker.task = task
        with suppress(OSError):  # dead: reading from it will tell
            worker.connection.send(task)

    def _start(self, device: str) -> _Worker[Task]:
        context = _context(device, self._setup)
        ours, theirs = context.Pipe()
        import torch  # a process that only takes tasks up needs seconds less without it

        threads = torch.get_num_threads() // len(self._devices)
        if device != "cpu":
            threads //= 2  # all wait for the slowest, and a GPU's host has other work too
        process = context.Process(
            target=_serve, args=(theirs, self._setup, device, max(1, threads)), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(device, process, ours)

    def _replace(self, worker: _Worker[Task], deaths: int) -> None:
        worker.process.join(_SHUTDOWN_TIMEOUT_S)
        code = worker.process.exitcode
        log.warning("the worker on %s died (exit status %s)", worker.device, code)
        worker.connection.close()
        if deaths >= MAX_WORKER_DEATHS:
            raise LatentWireError(
                f"workers on {worker.device} died {deaths} times over one chunk (exit status"
                f" {code}): try fewer workers, or a smaller batch_size"
            )
        self._workers[self._workers.index(worker)] = self._start(worker.device)


def begin_imports(module: str) -> None:
    """Start the process that workers on a CPU are forked from: it imports `module`, which has their
    setup, and what else they need, while this one does something else."""
    if hasattr(os, "fork"):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module, *PRELOADED])
        forkserver.ensure_running()


def _context(device: str, setup: Setup[Any, Any]) -> Any:
    """How workers start: CUDA does not survive a fork; on a CPU they fork from one process that
    has imported what takes seconds once, and serves every later pool too."""
    if device != "cpu" or not hasattr(os, "fork"):
        return multiprocessing.get_context("spawn")
    begin_imports(getattr(setup, "func", setup).__module__)  # of a partial, what it completes
    return multiprocessing.get_context("forkserver")


def split_span(span: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Examples start to stop - 1 in at most `count` parts, as equal as can be."""
    start, stop = span
    count = min(count, stop - start)
    return [*pairwise(start + (stop - start) * part // count for part in range(count + 1))]


def _serve(connection: Connection, setup: Setup[Any, Any], device: str, threads: int) -> None:
    """A worker's life: it ends with its parent, or when that closes the connection."""
    prepare_output()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # or each worker would also take memory of the first one
    try:
        work = setup(device)
        while True:
            task = connection.recv()
            result = work(task, lambda done: connection.send(("progress", done)))
            connection.send(("result", result))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        connection.send(("error", _portable(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """An error of a type that every process knows."""
    if isinstance(error, LatentWireError):
        return error
    return RuntimeError(f"a worker failed: {type(error).__name__}: {error}")
