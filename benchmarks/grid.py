"""How fast the whole grid of M0, M2 and M3 is, against the definition and against the hardware.

    PYTHONPATH=.:C2C python benchmarks/grid.py [--deranged] [--profile] [--output FILE.json]

The published pair's exact shapes with random weights (see `random_pair`), prompts of random tokens
and answers as long as those of a published run (see `lengths`): the work of the real grid, without
its files. Answers end after their length whatever the tokens are. `--small --limit 4` shows on a
CPU in seconds that it runs. With `--scaling` it measures how time grows instead (see `scaling`).
"""

import argparse
import json
import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import scaling
import torch
from flops import Work, chosen_tokens, copy_bytes, count, matmul_flops, synchronize
from published_lengths import LENGTHS, Asked, grid, read_sets
from random_pair import loaded_random_pair

from c2c import batched_decoding, fast_ops
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Condition

WARM_UP = 64  # questions of the first set, under all conditions, before any clock runs


def main() -> None:
    options = parse()
    if options.scaling:
        scaling.run(options.device, options.small, options.output)
        return
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    if options.own_norms:
        fast_ops.fast_norms = lambda *models: nullcontext()  # type: ignore[assignment]
    if not options.kernel:
        batched_decoding.supported = lambda *slots: False  # type: ignore[assignment]
    pair = loaded_random_pair(dtype, options.device, small=options.small)
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    conditions = grid(options.deranged)
    vocabulary = len(pair.tokenizer)
    sets = read_sets(options.lengths, conditions, vocabulary, options.limit)
    say: dict[str, Any] = {
        "device": name_of(device),
        "torch": torch.__version__,
        "dtype": options.dtype,
        "shapes": "small (no timing)" if options.small else "Qwen3-0.6B <- Qwen2.5-0.5B",
        "questions": {asked.name: len(asked.questions) for asked in sets},
        "conditions": len(conditions),
        "cuda_graphs": options.graphs and device.type == "cuda",
        "norms": "the models' own" if options.own_norms else "fused",
        "attention_of_steps": "the kernel" if options.kernel else "torch",
        "chunk_size": options.chunk_size or "a set",
    }
    warm_up = min(WARM_UP, len(sets[0].questions))
    began = time.perf_counter()
    work = Workspace(pair, options.graphs)
    run(work, conditions, cut(sets[0], 0, warm_up), options)
    synchronize(device)
    say["warm_up"] = f"{warm_up} questions, {time.perf_counter() - began:.1f} s, not counted"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    phases = Phases(device) if options.profile else None
    began = time.perf_counter()
    for asked in sets:
        run(work, conditions, asked, options, phases)
    synchronize(device)
    seconds = time.perf_counter() - began
    if device.type == "cuda":
        say["peak_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    answers = len(conditions) * sum(len(asked.questions) for asked in sets)
    say |= {
        "seconds": seconds,
        "answers": answers,
        "answers_per_second": answers / seconds,
        "timed": "with a wait for the device after each phase" if phases else "without waits",
    }
    rate, bandwidth = matmul_flops(device), copy_bytes(device)
    work = total(
        [
            count(
                *(pair, conditions, a.questions, a.donors, a.forced_lengths),
                chosen_tokens(pair, conditions, a.questions, a.donors),
            )
            for a in sets
        ]
    )
    flops = sum(part.flops for part in work.values())
    prefill = sum(part.flops for name, part in work.items() if name != "decoding")
    floor = prefill / rate + work["decoding"].cache_bytes / bandwidth
    say |= {
        "matmul_tflops": rate / 1e12,
        "copy_tb_per_second": bandwidth / 1e12,
        "flops": flops,
        "utilisation": flops / seconds / rate,
        "floor_seconds": floor,
        "times_the_floor": seconds / floor,
        "phases": {},
    }
    for name, part in work.items():
        entry = {"tokens": part.tokens, "flops": part.flops}
        if phases:
            spent = phases.seconds[name]
            entry |= {
                "seconds": spent,
                "share": spent / seconds,
                "tokens_per_second": part.tokens / spent if spent else None,
                "utilisation": part.flops / spent / rate if spent else None,
            }
        say["phases"][name] = entry
    if phases:
        rest = {n: s for n, s in phases.seconds.items() if n not in work}
        say["phases"] |= {n: {"seconds": s, "share": s / seconds} for n, s in rest.items()}
    if options.pipeline_sample:
        say |= by_definition(pair, conditions, sets, options.pipeline_sample, answers, seconds)
    report(say)
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")


def parse() -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--device", default="cuda" if cuda else "cpu")
    add("--dtype", default="bfloat16" if cuda else "float32")
    add("--lengths", type=Path, default=LENGTHS, help="CSV of lengths (see published_lengths.py)")
    add("--limit", type=int, help="only the first questions of each set")
    add("--batch-size", type=int, help="questions at once; default: fit to memory")
    add("--chunk-size", type=int, help="questions a call, as a milestone asks; default: a set")
    add("--deranged", action="store_true", help="each C2C condition with its control too")
    add("--profile", action="store_true", help="time each phase, waiting for the device")
    add("--no-graphs", dest="graphs", action="store_false", help="no CUDA graphs")
    add("--own-norms", action="store_true", help="the models' own norms in 16 bits, unfused")
    add("--no-kernel", dest="kernel", action="store_false", help="attention of steps by torch")
    add("--pipeline-sample", type=int, default=4, metavar="N", help="questions by pipeline.py")
    add("--small", action="store_true", help="tiny shapes: only to see that it runs")
    add("--scaling", action="store_true", help="how time grows, as a CSV")
    add("--output", type=Path, help="results as JSON (a CSV with --scaling)")
    return arguments.parse_args()


class Phases:
    """Seconds by phase, between one end of a phase and the next."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict[str, float](float)
        self.start()

    def start(self) -> None:
        synchronize(self.device)
        self.last = time.perf_counter()

    def passed(self, phase: str) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[phase] += now - self.last
        self.last = now


def run(
    work: Workspace,
    conditions: list[Condition],
    asked: Asked,
    options: argparse.Namespace,
    phases: Phases | None = None,
) -> None:
    """Answer a set, each answer as long as it is to be."""
    if phases:
        work.on_phase_end = phases.passed
        phases.start()
    size = options.chunk_size or len(asked.questions)
    for start in range(0, len(asked.questions), size):
        chunk = cut(asked, start, start + size)
        records = engine.evaluate(
            work.pair,
            conditions,
            chunk.questions,
            chunk.donors,
            options.batch_size,
            work=work,
            forced_lengths=chunk.forced_lengths,
        )
        for condition in conditions:
            given = [record.generated_tokens for record in records[condition]]
            assert given == chunk.forced_lengths[condition], condition.label


def cut(asked: Asked, start: int, stop: int) -> Asked:
    """Some of a set's questions."""
    part = slice(start, stop)
    return Asked(
        asked.name,
        asked.questions[part],
        asked.donors[part],
        {c: lengths[part] for c, lengths in asked.forced_lengths.items()},
    )


def total(parts: list[dict[str, Work]]) -> dict[str, Work]:
    summed: dict[str, Work] = defaultdict(Work)
    for part in parts:
        for name, work in part.items():
            summed[name].add(work.tokens, work.flops, work.cache_bytes)
    return dict(summed)


def by_definition(
    pair: LoadedPair,
    conditions: list[Condition],
    sets: list[Asked],
    sample: int,
    answers: int,
    seconds: float,
) -> dict[str, Any]:
    """The same work by `pipeline`, on evenly spaced questions, scaled to all."""
    every = [(asked, row) for asked in sets for row in range(len(asked.questions))]
    chosen = every[:: max(1, len(every) // sample)][:sample]
    spent = 0.0
    for number, (asked, row) in enumerate([chosen[0], *chosen]):  # the first to warm up
        synchronize(pair.device)
        began = time.perf_counter()
        for condition in conditions:
            question, donor = asked.questions[row], asked.donors[row]
            # With no stop token an answer is as long as it may be.
            task = replace(question.task, max_new_tokens=asked.forced_lengths[condition][row])
            pipeline.evaluate(pair, condition, replace(question, task=task), donor)
        synchronize(pair.device)
        spent += (time.perf_counter() - began) * (number > 0)
    scaled = spent * answers / (len(chosen) * len(conditions))
    return {
        "pipeline_sample": f"{len(chosen)} questions under all conditions, {spent:.2f} s",
        "pipeline_seconds_scaled": scaled,
        "times_faster_than_pipeline": scaled / seconds,
    }


def name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def report(say: dict[str, Any]) -> None:
    for name, value in say.items():
        if name != "phases":
            print(f"{name:<28} {f'{value:.4g}' if isinstance(value, float) else value}")
    for name, entry in say["phases"].items():
        parts = [
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in entry.items()
        ]
        print(f"  {name:<18} {', '.join(parts)}")


if __name__ == "__main__":
    main()
