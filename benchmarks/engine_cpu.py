"""The engine against the definition on this machine's CPU, with the bundled pair.

    OMP_NUM_THREADS=2 PYTHONPATH=.:C2C python benchmarks/engine_cpu.py [--deranged]

Real questions, real answers, the 13 conditions of M0, M2 and M3. Records must be equal; where
float32 rounding moved a number across a quantizer's edge, the answers that differ are counted.
"""

import argparse
import time

import torch
from published_lengths import grid
from transformers import AutoTokenizer

from c2c.cache import geometry
from c2c.checkpoint import load_fuser
from c2c.load_model import load_model
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import IDENTITY_BYTES
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import locate_pair
from latentwire.tasks.question import derange, tokenize
from latentwire.tasks.registry import load_dataset


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--questions", type=int, default=200, help="for the engine")
    arguments.add_argument("--sample", type=int, default=20, help="of them, for the definition")
    arguments.add_argument("--batch-size", type=int)
    arguments.add_argument("--deranged", action="store_true")
    options = arguments.parse_args()
    pair = bundled_pair()
    dataset = load_dataset("demo_graded")
    questions = tokenize(dataset.task, dataset.examples[: options.questions], pair.tokenizer)
    donors = derange(questions, 42)
    conditions = grid(options.deranged)
    engine.evaluate(pair, conditions, questions[:8], donors[:8], options.batch_size)  # warm-up
    began = time.perf_counter()
    records = engine.evaluate(pair, conditions, questions, donors, options.batch_size)
    fast = (time.perf_counter() - began) / (len(questions) * len(conditions))
    pipeline.evaluate(pair, conditions[-1], questions[0], donors[0])
    began, different = time.perf_counter(), 0
    for row in range(options.sample):
        for condition in conditions:
            record = pipeline.evaluate(pair, condition, questions[row], donors[row])
            different += record != records[condition][row]
    slow = (time.perf_counter() - began) / (options.sample * len(conditions))
    print(f"{torch.get_num_threads()} threads, {len(conditions)} conditions, bundled pair, float32")
    print(f"definition: {1000 * slow:.2f} ms an answer ({options.sample} questions)")
    print(f"engine:     {1000 * fast:.2f} ms an answer ({len(questions)} questions)")
    print(f"ratio {slow / fast:.1f}, records that differ: {different}")


def bundled_pair(dtype: torch.dtype = torch.float32, device: str = "cpu") -> LoadedPair:
    located = locate_pair(load_pair("demo"), download=False)
    receiver, sharer = (
        load_model(folder, dtype, device) for folder in (located.receiver, located.sharer)
    )
    fuser = load_fuser(
        located.fuser, geometry(sharer.config), geometry(receiver.config), dtype, device
    )
    tokenizer = AutoTokenizer.from_pretrained(located.receiver)
    return LoadedPair(
        receiver, sharer, fuser, tokenizer, Endpoint.of(fuser, bytes(range(IDENTITY_BYTES)))
    )


if __name__ == "__main__":
    main()
