"""How much faster several GPUs of a host are than one: the grid of M0, M2 and M3, by workers.

    PYTHONPATH=.:C2C python benchmarks/workers.py [--workers 2] [--output FILE.json]

The processes and the queue are those of `-P workers=`; models are those of `grid.py` (random
weights in the published pair's shapes, published lengths). A worker loads and answers one chunk
before the clock runs. Without GPUs, `--small --device cpu` shows with tiny shapes that it runs.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from grid import cut
from lengths import LENGTHS, Asked, grid, read_sets
from random_pair import bundled_tokenizer, loaded_random_pair

from latentwire.evaluation import engine
from latentwire.evaluation.batch import Workspace
from latentwire.evaluation.crew import Crew, Work
from latentwire.evaluation.engine import Progress

Task = tuple[str, int, int]  # set, first question, one past the last
CONDITIONS = grid(deranged=False)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--workers", type=int, default=2, help="to compare with one")
    add("--chunk-size", type=int, default=200, help="questions a task")
    add("--limit", type=int, help="only the first questions of each set")
    add("--small", action="store_true", help="tiny shapes: only to see that it runs")
    add("--output", type=Path, help="results as JSON")
    options = arguments.parse_args()
    sets = questions(options.limit)
    tasks = [
        (asked.name, start, min(start + options.chunk_size, len(asked.questions)))
        for asked in sets.values()
        for start in range(0, len(asked.questions), options.chunk_size)
    ]
    setup = partial(open_worker, options.limit, options.small)
    say: dict[str, Any] = {"torch": torch.__version__, "device": options.device}
    say |= {"tasks": len(tasks), "answers": sum((b - a) * len(CONDITIONS) for _, a, b in tasks)}
    for count in (1, options.workers):
        devices = [
            f"cuda:{number}" if options.device == "cuda" else options.device
            for number in range(count)
        ]
        say[f"seconds_with_{count}"] = timed(setup, devices, tasks)
        print(f"{count} workers: {say[f'seconds_with_{count}']:.2f} s", flush=True)
    say["ratio"] = say["seconds_with_1"] / say[f"seconds_with_{options.workers}"]
    print(f"ratio {say['ratio']:.2f}")
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")


def timed(setup: Any, devices: list[str], tasks: list[Task]) -> float:
    """Seconds for all tasks, once every worker has done one."""
    with Crew(setup, devices) as crew:
        # As many as there are workers, given out before any is done: one each.
        done = list(crew.map(partial(next, iter([tasks[0]] * len(devices)), None)))
        assert len(done) == len(devices)
        began = time.perf_counter()
        answers = sum(found for _, found in crew.map(partial(next, iter(tasks), None)))
        seconds = time.perf_counter() - began
    assert answers == sum((stop - start) * len(CONDITIONS) for _, start, stop in tasks)
    return seconds


def open_worker(limit: int | None, small: bool, device: str) -> Work[Task, int]:
    """A worker's work: a task's answers, counted."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    pair = loaded_random_pair(dtype, device, small=small)
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    sets, work = questions(limit), Workspace(pair)

    def answer(task: Task, progress: Progress) -> int:
        name, start, stop = task
        asked = cut(sets[name], start, stop)
        records = engine.evaluate(
            pair, CONDITIONS, asked.questions, asked.donors, work=work, forced=asked.forced
        )
        return sum(map(len, records.values()))

    return answer


def questions(limit: int | None) -> dict[str, Asked]:
    sets = read_sets(LENGTHS, CONDITIONS, len(bundled_tokenizer()), limit)
    return {asked.name: asked for asked in sets}


if __name__ == "__main__":
    main()
