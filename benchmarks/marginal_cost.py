"""What one more condition costs, against what its own operations would at the first one's pace.

    PYTHONPATH=.:C2C python benchmarks/marginal_cost.py [--output FILE.json]

The time of the uncompressed cache alone gives a utilisation: its operations a second, of those that
a large product reaches. One more condition's own operations (fusion of its kept tokens, its tail,
its decoding) at that utilisation take `own_seconds`. `times_own` is how many of those it really
adds, to the first condition and to the whole grid of 13 (where it is one of another codec).
The published pair's shapes, random weights and published lengths, as in `grid.py`.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from flops import count, matmul_flops, synchronize
from published_lengths import LENGTHS, Asked, column, grid, random_questions
from random_pair import loaded_random_pair

from latentwire.evaluation import engine
from latentwire.evaluation.batch import Workspace
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import derange

FIRST = Condition("c2c", Channel("bf16"), "matched")
MORE = {
    "full length": Channel("nf4"),
    "0.5 front": Channel("nf4", 0.5, "front"),
    "0.5 back": Channel("nf4", 0.5, "back"),
    "0.1 front": Channel("nf4", 0.1, "front"),
    "0.1 back": Channel("nf4", 0.1, "back"),
}
REPEATS = 2


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    cuda = torch.cuda.is_available()
    add("--device", default="cuda" if cuda else "cpu")
    add("--questions", type=int, default=128)
    add("--small", action="store_true", help="tiny shapes: only to see that it runs")
    add("--output", type=Path, help="results as JSON")
    options = arguments.parse_args()
    dtype = torch.bfloat16 if cuda else torch.float32
    pair = loaded_random_pair(dtype, options.device, small=options.small)
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    asked = questions(options.questions, len(pair.tokenizer))
    rate = matmul_flops(pair.device)
    first_seconds, first_flops = measure(pair, [FIRST], asked), flops(pair, [FIRST], asked)
    pace = first_flops / first_seconds
    say: dict[str, Any] = {
        "questions": options.questions,
        "first_seconds": first_seconds,
        "first_utilisation": pace / rate,
    }
    print(say, flush=True)
    for name, start in (("first", [FIRST]), ("grid of 13", grid(deranged=False))):
        before, before_flops = measure(pair, start, asked), flops(pair, start, asked)
        for kind, channel in MORE.items():
            added = [*start, Condition("c2c", channel, "matched")]
            own_seconds = (flops(pair, added, asked) - before_flops) / pace
            seconds = measure(pair, added, asked) - before
            entry = {
                "seconds": seconds,
                "own_seconds": own_seconds,
                "times_own": seconds / own_seconds,
                "share_of_first": seconds / first_seconds,
            }
            print(f"{kind}, added to the {name}", entry, flush=True)
            say[f"{kind}, added to the {name}"] = entry
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")


def questions(number: int, vocabulary: int) -> Asked:
    """The first questions of the published ARC-C, every condition's answer as long as the
    uncompressed one's."""
    rows = pd.read_csv(LENGTHS).query("dataset == 'arc_c'").head(number)
    made = random_questions("arc_c", rows["prompt_tokens"].tolist(), vocabulary)
    answers = rows[column(Channel("bf16"))].astype(int).tolist()
    conditions = [*grid(deranged=False), *(Condition("c2c", c, "matched") for c in MORE.values())]
    return Asked("arc_c", made, derange(made, 42), dict.fromkeys(conditions, answers))


def flops(pair: LoadedPair, conditions: list[Condition], asked: Asked) -> float:
    parts = count(pair, conditions, asked.questions, asked.donors, asked.forced_lengths)
    return sum(part.flops for part in parts.values())


def measure(pair: LoadedPair, conditions: list[Condition], asked: Asked) -> float:
    """Seconds, the best of some runs after one that is not counted."""
    work, times = Workspace(pair), []
    for _ in range(REPEATS + 1):
        synchronize(pair.device)
        began = time.perf_counter()
        engine.evaluate(
            pair,
            conditions,
            asked.questions,
            asked.donors,
            work=work,
            forced_lengths=asked.forced_lengths,
        )
        synchronize(pair.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


if __name__ == "__main__":
    main()
