"""Workers with tasks that are quick, that fail, and that kill them."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.evaluation.progress import Progress
from latentwire.evaluation.worker_pool import WorkerPool

DEVICES = ["cpu", "cpu"]


@pytest.fixture(autouse=True, scope="module")
def _forked() -> Iterator[None]:
    """Workers come from a process that has their imports, which take seconds each; it has nothing
    of this one's open. `workers=2` of a milestone starts real ones (test_together.py)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "latentwire.evaluation.worker_pool", __name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method: context)
        yield


def square(device: str) -> Callable[[int, Progress], tuple[int, int]]:
    def work(task: int, progress: Progress) -> tuple[int, int]:
        progress(1)
        time.sleep(0.02)
        return task * task, os.getpid()

    return work


def touchy(device: str) -> Callable[[Path, Progress], str]:
    """Dies over a file's name the first time that it is seen; over `always`, every time."""

    def work(task: Path, progress: Progress) -> str:
        if task.name == "refused":
            raise LatentWireError("this task is refused")
        if task.name == "always" or not task.exists():
            task.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task.name

    return work


def broken(device: str) -> Callable[[int, Progress], int]:
    raise ZeroDivisionError("no work here")


def taking(tasks: list) -> Callable[[], object | None]:  # type: ignore[type-arg]
    waiting = deque(tasks)
    return lambda: waiting.popleft() if waiting else None


def test_each_task_is_done_once_by_several_processes() -> None:
    seen: list[int] = []
    with WorkerPool(square, DEVICES, seen.append) as crew:
        found = list(crew.map(taking([*range(1, 13)])))
        again = list(crew.map(taking([20])))
    assert sorted(task for task, _ in found) == [*range(1, 13)]
    assert all(result[0] == task**2 for task, result in [*found, *again])
    assert len({pid for _, (_, pid) in found}) == 2
    assert sum(seen) == 13


def test_a_dead_workers_task_is_taken_up_again(tmp_path: Path) -> None:
    for name in ("a", "c", "d"):
        (tmp_path / name).touch()
    tasks = [tmp_path / name for name in "abcd"]
    with WorkerPool(touchy, DEVICES) as crew:
        found = [result for _, result in crew.map(taking(tasks))]
    assert sorted(found) == [*"abcd"]


def listed(device: str) -> Callable[[list[int], Progress], tuple[list[int], set[int]]]:
    def work(task: list[int], progress: Progress) -> tuple[list[int], set[int]]:
        time.sleep(0.1)
        return [number * number for number in task], {os.getpid()}

    return work


def test_a_task_in_parts_gives_the_whole() -> None:
    """The last of all is shared by both, and what it gives is in its own order."""
    tasks = [[1, 2, 3, 4], [5], [6, 7, 8, 9, 10, 11]]

    def cut(task: list[int]) -> list[list[int]]:
        return [task[start : start + 2] for start in range(0, len(task), 2)]

    def join(parts: Sequence[tuple[list[int], set[int]]]) -> tuple[list[int], set[int]]:
        return [n for numbers, _ in parts for n in numbers], {p for _, own in parts for p in own}

    with WorkerPool(listed, DEVICES) as crew:
        # One each, given out before any is done: after it both workers are up and free.
        found = list(crew.map_split(taking(tasks[:2]), lambda task: [task], join))
        found += crew.map_split(taking(tasks[2:]), cut, join)
    assert sorted(task for task, _ in found) == tasks
    assert all(squares == [n * n for n in task] for task, (squares, _) in found)
    assert [len(pids) for task, (_, pids) in found if task == tasks[2]] == [2]


def test_a_task_that_kills_every_worker_ends_the_work(tmp_path: Path) -> None:
    with (
        WorkerPool(touchy, DEVICES) as crew,
        pytest.raises(LatentWireError, match=r"died 2 times over one chunk \(exit status -9\)"),
    ):
        list(crew.map(taking([tmp_path / "always"])))


def test_what_a_worker_raises_is_raised(tmp_path: Path) -> None:
    with WorkerPool(touchy, DEVICES) as crew, pytest.raises(LatentWireError, match="is refused"):
        list(crew.map(taking([tmp_path / "refused"])))
    with (
        WorkerPool(broken, DEVICES) as crew,
        pytest.raises(RuntimeError, match="ZeroDivisionError"),
    ):
        list(crew.map(taking([1])))


def test_no_worker_outlives_the_block() -> None:
    with WorkerPool(square, DEVICES) as crew:
        pids = {pid for _, (_, pid) in crew.map(taking([1, 2, 3, 4]))}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
