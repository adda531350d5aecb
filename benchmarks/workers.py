"""How much faster several GPUs of a host are than one: the grid of M0, M2 and M3, by workers.

    PYTHONPATH=.:C2C python benchmarks/workers.py [--workers 2] [--output FILE.json]

The processes and the queue are those of `-P workers=`; models are those of `grid.py` (random
weights in the published pair's shapes, published lengths). A worker loads and answers one chunk
before the clock runs. Without GPUs, `--small --device cpu` shows with tiny shapes that it runs.
"""

import argparse
import json
import os
import time
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from grid import cut
from published_lengths import LENGTHS, Asked, grid, read_sets
from random_pair import bundled_tokenizer, loaded_random_pair

from latentwire.evaluation import engine
from latentwire.evaluation.engine import Progress
from latentwire.evaluation.worker_pool import Work, WorkerPool, split_span
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Condition

Task = tuple[str, int, int]  # set, first question, one past the last


class Done(NamedTuple):
    """What a worker says of a task that it has done."""

    worker: str  # its process
    answers: int
    seconds: float


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--workers", type=int, default=2, help="to compare with one")
    add("--chunk-size", type=int, default=200, help="questions a task")
    add("--deranged", action="store_true", help="each C2C condition with its control too")
    add("--limit", type=int, help="only the first questions of each set")
    add("--rehearse", action="store_true", help="once more before: a new machine compiles kernels")
    add("--small", action="store_true", help="tiny shapes: only to see that it runs")
    add("--output", type=Path, help="results as JSON")
    options = arguments.parse_args()
    conditions = grid(options.deranged)
    sets = questions(conditions, options.limit)
    tasks = [
        (asked.name, start, min(start + options.chunk_size, len(asked.questions)))
        for asked in sets.values()
        for start in range(0, len(asked.questions), options.chunk_size)
    ]
    setup = partial(open_worker, conditions, options.limit, options.small)
    answers = sum(stop - start for _, start, stop in tasks) * len(conditions)
    say: dict[str, Any] = {"torch": torch.__version__, "device": device_name(options.device)}
    say |= {"conditions": len(conditions), "tasks": len(tasks), "answers": answers}
    for count in [options.workers] * options.rehearse + [1, options.workers]:
        devices = [
            f"cuda:{number}" if options.device == "cuda" else options.device
            for number in range(count)
        ]
        seconds, done = timed(setup, devices, tasks)
        assert sum(found.answers for found in done) == answers
        busy = Counter[str]()
        for found in done:
            busy[found.worker] += found.seconds
        say[f"seconds_with_{count}"] = seconds
        say[f"busy_seconds_with_{count}"] = list(busy.values())
        say[f"task_seconds_with_{count}"] = [found.seconds for found in done]
        print(f"{count} workers: {seconds:.2f} s", flush=True)
    say["ratio"] = say["seconds_with_1"] / say[f"seconds_with_{options.workers}"]
    print(f"ratio {say['ratio']:.2f}")
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")


def timed(setup: Any, devices: list[str], tasks: list[Task]) -> tuple[float, list[Done]]:
    """Seconds for all tasks, once every worker has done one, and what they say of theirs."""
    with WorkerPool(setup, devices) as crew:
        # As many as there are workers, given out before any is done: one each.
        warm = list(crew.map(partial(next, iter([tasks[0]] * len(devices)), None)))
        assert len({found.worker for _, (found,) in warm}) == len(devices)
        began = time.perf_counter()
        waiting = deque(tasks)

        def take() -> Task | None:
            return waiting.popleft() if waiting else None

        def cut(task: Task) -> list[Task]:  # the last ones, as milestones do
            name, start, stop = task
            count = len(devices) if len(waiting) < len(devices) else 1
            return [(name, *span) for span in split_span((start, stop), count)]

        done = [one for _, found in crew.map_split(take, cut, chain_all) for one in found]
        return time.perf_counter() - began, done


def chain_all(parts: Sequence[list[Done]]) -> list[Done]:
    return [done for part in parts for done in part]


def open_worker(
    conditions: list[Condition], limit: int | None, small: bool, device: str
) -> Work[Task, list[Done]]:
    """A worker's work: a task's answers, counted and timed."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    pair = loaded_random_pair(dtype, device, small=small)
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    sets, work = questions(conditions, limit), Workspace(pair)

    def answer(task: Task, progress: Progress) -> list[Done]:
        name, start, stop = task
        asked = cut(sets[name], start, stop)
        began = time.perf_counter()
        records = engine.evaluate(
            pair,
            conditions,
            asked.questions,
            asked.donors,
            work=work,
            forced_lengths=asked.forced_lengths,
        )
        seconds = time.perf_counter() - began
        return [Done(str(os.getpid()), sum(map(len, records.values())), seconds)]

    return answer


def questions(conditions: list[Condition], limit: int | None) -> dict[str, Asked]:
    sets = read_sets(LENGTHS, conditions, len(bundled_tokenizer()), limit)
    return {asked.name: asked for asked in sets}


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


if __name__ == "__main__":
    main()
