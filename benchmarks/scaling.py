"""How the engine's time grows: with conditions, examples, prompt length and the fuser's width.

    PYTHONPATH=.:C2C python benchmarks/grid.py --scaling --output results/scaling.csv
    PYTHONPATH=.:C2C python benchmarks/scaling.py results/scaling.csv scaling.png

The first line measures, the second draws. One thing is varied at a time, all else as in BASE. A
line holds the best of REPEATS runs after one that is not counted; its buffers and CUDA graphs are
used again, as by the chunks of a milestone. `seconds_each` is the slope of a straight line through
a sweep's points, `exponent` that of a line through their logarithms: 1 is linear.
"""

import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from flops import synchronize
from published_lengths import random_questions
from random_pair import loaded_random_pair

from latentwire.channel.kernels.rules import spec_of
from latentwire.channel.registry import CODECS
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Channel, Condition

CUTS = [(1.0, "front"), *product((0.75, 0.5, 0.25, 0.1), ("front", "back"))]
# Numbers of conditions that hold each cut equally often, but for the first two.
BASE = {"conditions": 9, "examples": 64, "prompt_tokens": 134, "fuser_hidden": 1024}
SWEEPS = {
    "conditions": (1, 3, 9, 18, 36, 54, 72, 99),
    "examples": (8, 16, 32, 64, 128, 256, 512),
    "prompt_tokens": (100, 200, 500, 1000, 2000, 4000, 8000),
    "fuser_hidden": (256, 512, 1024, 2048),
}
SMALL_BASE = {"conditions": 3, "examples": 2, "prompt_tokens": 20, "fuser_hidden": 64}
SMALL_SWEEPS = {
    "conditions": (1, 3),
    "examples": (1, 2),
    "prompt_tokens": (20, 40),
    "fuser_hidden": (64, 128),
}
# Long prompts with fewer examples, so that one point does not take minutes.
LONG_EXAMPLES = {1000: 32, 2000: 16, 4000: 8, 8000: 4}
ANSWER_TOKENS = 10  # what answers have on average
REPEATS = 2


def run(device: str, small: bool, output: Path | None) -> None:
    """Measure all sweeps; print them, and write them to `output` as CSV."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    base, sweeps = (SMALL_BASE, SMALL_SWEEPS) if small else (BASE, SWEEPS)
    lines = []
    for sweep, values in sweeps.items():
        pair = None
        for value in values:
            setup = {**base, sweep: value}
            if sweep == "prompt_tokens":
                setup["examples"] = min(setup["examples"], LONG_EXAMPLES.get(value, 64))
            if pair is None or sweep == "fuser_hidden":
                pair = None  # the old one goes before the new one comes
                pair = loaded_random_pair(dtype, device, setup["fuser_hidden"], small)
            seconds = measure(pair, setup)
            # Per example, so that points with fewer of them stand on the same line.
            scaled = seconds if sweep == "examples" else seconds / setup["examples"]
            lines.append({"sweep": sweep, "value": value, **setup, "seconds": scaled})
            print(f"{sweep} {value}: {seconds:.3f} s", flush=True)
    table = pd.DataFrame(lines)
    for sweep, points in table.groupby("sweep"):
        x, y = points["value"].to_numpy(float), points["seconds"].to_numpy()
        rows = table["sweep"] == sweep
        table.loc[rows, "seconds_each"] = np.polyfit(x, y, 1)[0]
        table.loc[rows, "exponent"] = np.polyfit(np.log(x), np.log(y), 1)[0]
    print(table.to_string(index=False))
    if output:
        table.to_csv(output, index=False)


def measure(pair: LoadedPair, setup: dict[str, int]) -> float:
    """Seconds for one set of examples, the best of some runs."""
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    lengths = [setup["prompt_tokens"]] * setup["examples"]
    questions = random_questions("scaling", lengths, len(pair.tokenizer))
    conditions = varied(setup["conditions"])
    forced_lengths = {c: [ANSWER_TOKENS] * len(questions) for c in conditions}
    work, times = Workspace(pair), []
    for _ in range(REPEATS + 1):
        synchronize(pair.device)
        began = time.perf_counter()
        engine.evaluate(
            pair, conditions, questions, questions, work=work, forced_lengths=forced_lengths
        )
        synchronize(pair.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def varied(number: int) -> list[Condition]:
    """So many C2C conditions: all cuts in turn, with each of the codecs that have kernels."""
    return [c for c, _ in zip(_channels(), range(number), strict=False)]


def _channels() -> Iterator[Condition]:
    for codec in (name for name, made in CODECS.items() if spec_of(made)):
        for ratio, order in CUTS:
            yield Condition("c2c", Channel(codec, ratio, order), "matched")


def draw(source: Path, target: Path) -> None:
    """A panel a sweep: measured times, and the straight line through them."""
    import matplotlib.pyplot as plt  # the machine that measures need not have it

    table = pd.read_csv(source)
    titles = {
        "conditions": "conditions",
        "examples": "examples",
        "prompt_tokens": "prompt, tokens",
        "fuser_hidden": "fuser's hidden size",
    }
    figure, panels = plt.subplots(1, len(titles), figsize=(12, 3), constrained_layout=True)
    for panel, (sweep, title) in zip(panels, titles.items(), strict=True):
        points = table[table["sweep"] == sweep]
        whole = sweep == "examples"  # there, the time of all; else that of one example
        unit, scale = ("s", 1) if whole else ("ms an example", 1000)
        x, y = points["value"], points["seconds"] * scale
        each = points["seconds_each"].iloc[0]
        line = (points["seconds"].mean() + each * (x - x.mean())) * scale
        panel.plot(x, line, color="0.6", linewidth=1)
        panel.plot(x, y, "o", color="#0072B2")
        panel.set(xlabel=title, ylabel=unit, xlim=0, ylim=0)
        slope = f"{1000 * each:.2g} ms" if 1000 * each >= 0.1 else f"{1e6 * each:.2g} \u00b5s"
        panel.set_title(f"{slope} each, exponent {points['exponent'].iloc[0]:.2f}", fontsize=9)
        panel.grid(alpha=0.3)
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
