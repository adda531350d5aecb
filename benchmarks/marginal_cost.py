"""What one more condition costs, against what its own operations would at the grid's pace.

    PYTHONPATH=.:C2C python benchmarks/marginal_cost.py [--output FILE.json]

The grid is the 13 conditions of M0, M2 and M3, in the published pair's shapes with random weights,
random prompts of published lengths (as in `grid.py`). One more condition's own operations (scores
of tokens, fusion of those that go, what is read again, decoding; see `flops.py`) take `own_seconds`
at the pace of the grid. `times_own` is how many of those it adds to the grid.

In each round the grid runs `GRID_RUNS` times and the grid with one more condition once for each of
`MORE`, in an order that moves on; a round's difference is one measurement. `resolution_seconds` is
the standard error of their mean. Where zero is in the difference's 95 % interval (Student's t) no
ratio is given, and only the interval says how much it can be.

`kvtc2` and `klt2` are fitted to random numbers first, as in `packet.py`: nearly all components are
coded, which is the most that they can have to do.

All questions are one batch of one size, so that every run has the same buffers and CUDA graphs,
recorded before any clock runs; `--batch-size 64` serves a GPU of 80 GB.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
import torch
from flops import chosen_tokens, count, matmul_flops, synchronize
from grid import name_of
from packet import FITTED, TRANSFORMED, calibration
from published_lengths import LENGTHS, Asked, column, grid, random_questions
from random_pair import loaded_random_pair
from scipy.stats import t as student

from latentwire.channel.positions import Positions
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import derange

MORE = {
    "nf4 whole": Channel("nf4"),
    **{
        f"int8 0.25 {order}": Channel("int8", 0.25, order)
        for order in (
            *("vnorm", "snapkv", "kvcomm"),
            *("vnorm_by_layer", "snapkv_by_layer", "expected_attention_by_layer"),
        )
    },
    "int8 vnorm_by_layer, 1/8 of the bytes": Channel(
        "int8", 1, "vnorm_by_layer", budget_ratio=1 / 8
    ),
    **{f"{codec} whole": Channel(codec, calibration=FITTED) for codec in TRANSFORMED},
}
GOAL = 1.5  # times its own operations
GRID_RUNS = 2  # a round: every difference has the grid in it
LEAST_ROUNDS = 3


@dataclass
class Bench:
    """One pair, its questions and buffers."""

    pair: LoadedPair
    asked: Asked
    chosen: dict[Condition, list[Positions]]
    batch_size: int
    work: Workspace

    def flops(self, conditions: list[Condition]) -> float:
        asked = self.asked
        told = asked.questions, asked.donors, asked.forced_lengths, self.chosen
        return sum(part.flops for part in count(self.pair, conditions, *told).values())

    def seconds(self, conditions: list[Condition]) -> float:
        """Of one run."""
        synchronize(self.pair.device)
        began = time.perf_counter()
        engine.evaluate(
            self.pair,
            conditions,
            self.asked.questions,
            self.asked.donors,
            self.batch_size,
            work=self.work,
            forced_lengths=self.asked.forced_lengths,
        )
        synchronize(self.pair.device)
        return time.perf_counter() - began


def main() -> None:
    options = parse()
    cuda = options.device.startswith("cuda")
    dtype = torch.bfloat16 if cuda else torch.float32
    pair = loaded_random_pair(dtype, options.device, small=options.small)
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    if any(MORE[name].calibration for name in options.only):
        known = calibration(True, pair.device, pair.endpoint.geometry)
        pair = replace(pair, endpoint=replace(pair.endpoint, calibration=known))
    asked = questions(options.questions, len(pair.tokenizer))
    conditions = list(asked.forced_lengths)
    chosen = chosen_tokens(pair, conditions, asked.questions, asked.donors)
    size = options.batch_size or options.questions
    bench = Bench(pair, asked, chosen, size, Workspace(pair))
    base = grid(deranged=False)
    grids = {name: [*base, Condition("c2c", MORE[name], "matched")] for name in options.only}
    grid_flops = bench.flops(base)
    own_flops = {name: bench.flops(more) - grid_flops for name, more in grids.items()}
    for more in (*grids.values(), base):  # the grid last, in the buffers of the larger ones
        print(f"not counted: {bench.seconds(more):.2f} s", flush=True)
    grid_seconds, differences = rounds(bench, base, grids, options.rounds, options.most_seconds)
    pace = grid_flops / mean(grid_seconds)
    say: dict[str, Any] = {
        "device": name_of(pair.device),
        "torch": torch.__version__,
        "shapes": "small (no timing)" if options.small else "Qwen3-0.6B <- Qwen2.5-0.5B",
        "questions": options.questions,
        "batch_size": size,
        "rounds": len(grid_seconds),
        "grid_runs_a_round": GRID_RUNS,
        "grid_seconds": mean(grid_seconds),
        "grid_flops": grid_flops,
        "grid_utilisation": pace / matmul_flops(pair.device),
        "goal_times_own": GOAL,
        "more": {
            name: judged(differences[name], own_flops[name], pace) | sent(chosen, grids[name][-1])
            for name in grids
        },
    }
    report(say)
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--questions", type=int, default=128)
    add("--batch-size", type=int, help="questions at once; default: all")
    add("--rounds", type=int, default=20, help=f"at most; never fewer than {LEAST_ROUNDS}")
    add("--most-seconds", type=float, default=100, help="no round starts after that many")
    add("--only", nargs="+", choices=MORE, default=[*MORE], metavar="NAME", help="of `MORE`")
    add("--small", action="store_true", help="tiny shapes: only to see that it runs")
    add("--output", type=Path, help="results as JSON")
    return arguments.parse_args()


def questions(number: int, vocabulary: int) -> Asked:
    """The first questions of the published ARC-C, every condition's answer as long as the
    uncompressed one's."""
    rows = pd.read_csv(LENGTHS).query("dataset == 'arc_c'").head(number)
    made = random_questions("arc_c", rows["prompt_tokens"].tolist(), vocabulary)
    answers = rows[column(Channel("bf16"))].astype(int).tolist()
    conditions = [*grid(deranged=False), *(Condition("c2c", c, "matched") for c in MORE.values())]
    return Asked("arc_c", made, derange(made, 42), dict.fromkeys(conditions, answers))


def rounds(
    bench: Bench,
    base: list[Condition],
    grids: dict[str, list[Condition]],
    most: int,
    most_seconds: float,
) -> tuple[list[float], dict[str, list[float]]]:
    """Of each round the grid's mean seconds, and the seconds that each further condition added."""
    of_grid: list[float] = []
    differences: dict[str, list[float]] = {name: [] for name in grids}
    began = time.perf_counter()
    while len(of_grid) < LEAST_ROUNDS or (
        len(of_grid) < most and time.perf_counter() - began < most_seconds
    ):
        shift = len(of_grid) % len(grids)
        names = [*grids][shift:] + [*grids][:shift]
        taken: dict[str, float] = {}
        alone: list[float] = []
        for place, name in enumerate(names):
            if place * GRID_RUNS // len(names) == len(alone):  # evenly among the others
                alone.append(bench.seconds(base))
            taken[name] = bench.seconds(grids[name])
        of_grid.append(mean(alone))
        for name, seconds in taken.items():
            differences[name].append(seconds - of_grid[-1])
        print(f"round {len(of_grid)}: the grid {of_grid[-1]:.3f} s", flush=True)
    return of_grid, differences


def judged(differences: Sequence[float], own_flops: float, pace: float) -> dict[str, Any]:
    """Seconds that a condition added, round by round, against `own_flops` operations at `pace` a
    second; no ratio where the difference is not resolved, no verdict where the goal is not."""
    number, own = len(differences), own_flops / pace
    seconds, error = mean(differences), stdev(differences) / math.sqrt(number)
    reach = float(student.ppf(0.975, number - 1)) * error
    low, high = (seconds - reach) / own, (seconds + reach) / own
    return {
        "seconds": seconds,
        "resolution_seconds": error,
        "own_flops": own_flops,
        "own_seconds": own,
        "times_own": seconds / own if abs(seconds) > reach else None,
        "times_own_interval": [low, high],
        "within_goal": True if high <= GOAL else False if low > GOAL else None,
    }


def sent(chosen: dict[Condition, list[Positions]], condition: Condition) -> dict[str, float]:
    """How often what goes begins anew: what follows each section is read again."""
    return {"sections": mean(len(each.sections) for each in chosen[condition])}


def report(say: dict[str, Any]) -> None:
    print(
        f"{say['rounds']} rounds: the grid {say['grid_seconds']:.3f} s,"
        f" {say['grid_utilisation']:.1%} of what a large product reaches"
    )
    for name, entry in say["more"].items():
        low, high = entry["times_own_interval"]
        ratio = entry["times_own"]
        told = "not resolved" if ratio is None else f"{ratio:.2f} times its own"
        print(
            f"{name:<40} {entry['seconds']:+.4f} s +- {entry['resolution_seconds']:.4f},"
            f" own {entry['own_seconds']:.4f}: {told} [{low:.2f}, {high:.2f}]"
        )


if __name__ == "__main__":
    main()
