"""What a second GPU is worth in training: steps of one process and of several, by DDP.

    PYTHONPATH=.:C2C python benchmarks/training_ranks.py --output ranks.json

Models, fuser and prompts are those of `training_speed.py`. Each number of processes is started by
torchrun, one GPU each, in turns; a step's batch is either as large for each process (`--batch-size`
prompts, so that two processes train on twice as many: what a second GPU is bought for), or shared
by them. The speed is prompts a second, the ratio that of several processes over one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import training_speed
from torch import distributed

from c2c.processes import ALONE, Processes

RESULT = "LATENTWIRE_RANKS_RESULT"  # where a started process writes its seconds


def main() -> None:
    parser = training_speed.arguments(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    if RESULT in os.environ:
        _measure(options)
        return
    seconds: dict[str, list[float]] = {}
    for _ in range(options.turns):
        for count in options.processes:
            for way, rows in _batches(options.batch_size, count).items():
                seconds.setdefault(f"{count} {way}", []).extend(_started(count, rows))
    result = result(seconds, options)
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


def _batches(batch_size: int, count: int) -> dict[str, int]:
    """Rows of a step's whole batch for so many processes, by how the batch grows with them."""
    ways = {"each": batch_size * count}
    return ways if count == 1 else {**ways, "shared": batch_size}


def _started(count: int, rows: int) -> list[float]:
    """Seconds of the steps of `count` processes; the first one's clock."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "seconds.json"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        given = [*sys.argv[1:], "--batch-size", str(rows)]
        environment = os.environ | {RESULT: str(written), "OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, str(count), __file__, *given], check=True, env=environment)
        return list(json.loads(written.read_text()))


def _measure(options: argparse.Namespace) -> None:
    """One of the processes."""
    on_gpu = options.device != "cpu"
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if on_gpu:
        options.device = f"cuda:{rank}"
        torch.cuda.set_device(rank)
    torch.set_float32_matmul_precision("high")
    device = torch.device(options.device)
    models = training_speed.models(device, options.small, options.hidden_dim)
    processes = ALONE
    if count > 1:
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        processes = Processes(rank, count)
    seconds = training_speed.steps(*models, options, processes)
    if rank == 0:
        Path(os.environ[RESULT]).write_text(json.dumps(seconds))
    if count > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def result(seconds: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = {
        f"{count} {way}": rows
        for count in options.processes
        for way, rows in _batches(options.batch_size, count).items()
    }
    speed = {name: rows[name] / medians[name] for name in medians}
    alone = speed[f"{options.processes[0]} each"]
    return {
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "CPU",
        "torch": torch.__version__,
        "processes": {
            name: {
                "batch": rows[name],
                "step_s": medians[name],
                "prompts_per_s": speed[name],
                "ratio": speed[name] / alone,
            }
            for name in medians
        },
    }


if __name__ == "__main__":
    main()
