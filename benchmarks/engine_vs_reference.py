"""Engine and definition on the bundled pair's whole question sets, under the whole grid.

    PYTHONPATH=.:C2C python benchmarks/engine_vs_reference.py --dtype float64 [--device cuda] \
      [--output FILE.json]

Tokens must be the same, and the logits that an answer starts from within 1e-4. In float64 that
holds for every answer. In float32 sums in another order differ by a millionth, and where a number
of the sharer's cache lies that close to the edge between two steps of a quantizer, it arrives as
the other step: an answer is `rounded_otherwise` when what the fuser was given differs by such
steps, and only such answers may differ. Exits with 1 where another one does.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bf16 import answers_kept, asked, by_definition
from engine_cpu import bundled_pair
from published_lengths import grid
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.layout import Layout
from latentwire.evaluation import engine
from latentwire.evaluation.worker_pool import WorkerPool
from latentwire.pairs.load import load_pair
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import MAX_NEW_TOKENS

CONDITIONS = grid(deranged=False)
TOGETHER = 24  # questions a task
MOST = 1e-4
Task = tuple[str, str, int, int]  # dtype, question set, first question, one past the last
Compared = tuple[Counter[str], dict[str, float]]  # answers by kind, largest differences
Arrived = dict[tuple[Channel, int], list[Tensor]]  # by question: what the fuser reads, [H, T, D]


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", choices=("float64", "float32"), default="float32")
    add("--workers", type=int, default=2, help="processes, all on one device; 0: this one")
    add("--limit", type=int, help="only so many questions of each set")
    add("--output", type=Path, help="results as JSON")
    options = arguments.parse_args()
    tokenizer_pair = bundled_pair()
    tasks, sizes = [], {}
    for name in load_pair("demo").datasets:
        count = len(asked(tokenizer_pair, name)[0])
        sizes[name] = count = min(options.limit or count, count)
        tasks += [
            (options.dtype, name, start, min(start + TOGETHER, count))
            for start in range(0, count, TOGETHER)
        ]
    began = time.perf_counter()
    found: Counter[str] = Counter()
    largest = {"alike": 0.0, "rounded_otherwise": 0.0}
    for counted, logits in compared(tasks, options.device, options.workers):
        found += counted
        largest = {kind: max(largest[kind], logits[kind]) for kind in largest}
    say = {
        "torch": torch.__version__,
        "device": options.device,
        "dtype": options.dtype,
        "questions": sizes,
        "conditions": len(CONDITIONS),
        "answers": found["answers"],
        "answers_that_differ": found["differ"],
        "rounded_otherwise": found["rounded_otherwise"],
        "differ_without_reason": found["differ_without_reason"],
        "largest_logit_difference": largest["alike"],
        "largest_logit_difference_where_rounded_otherwise": largest["rounded_otherwise"],
        "seconds": time.perf_counter() - began,
    }
    for key, value in say.items():
        print(f"{key:<50} {value}")
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")
    return int(found["differ_without_reason"] > 0 or largest["alike"] > MOST)


def compared(tasks: Sequence[Task], device: str, workers: int) -> Iterator[Compared]:
    """What each task gives, as they come."""
    if not workers:
        both = Both(device)
        yield from (both(task, None) for task in tasks)
        return
    waiting = iter(tasks)
    with WorkerPool(Both, [device] * workers) as crew:
        for _, found in crew.map(lambda: next(waiting, None)):
            yield found


class Both:
    """A worker that answers questions both ways."""

    def __init__(self, device: str) -> None:
        torch.set_num_threads(1)
        self.device, self.pairs = device, {}

    def __call__(self, task: Task, progress: Any) -> Compared:
        dtype, name, start, stop = task
        if dtype not in self.pairs:
            self.pairs[dtype] = bundled_pair(getattr(torch, dtype), self.device)
        pair = self.pairs[dtype]
        questions, donors = (rows[start:stop] for rows in asked(pair, name))
        # In the order in which the engine takes them, so that its rows are ours.
        order = sorted(range(len(questions)), key=lambda row: -len(questions[row].token_ids))
        questions, donors = [questions[row] for row in order], [donors[row] for row in order]
        first: dict[tuple[Condition, int], Tensor] = {}
        with answers_kept(engine) as quick, arriving() as batched:
            engine.evaluate(
                pair,
                CONDITIONS,
                questions,
                donors,
                len(questions),
                on_first_logits=lambda c, row, logits: first.__setitem__((c, row), logits.clone()),
            )
        found: Counter[str] = Counter()
        largest = {"alike": 0.0, "rounded_otherwise": 0.0}
        for condition in CONDITIONS:
            for row, (question, donor) in enumerate(zip(questions, donors, strict=True)):
                with arriving() as single:
                    tokens, logits = by_definition(pair, condition, question, donor, MAX_NEW_TOKENS)
                differ = quick[condition, question.example.id] != tokens
                channel = condition.channel
                moved = channel is not None and any(
                    bool(stepped(ours, theirs).any())
                    for ours, theirs in zip(
                        batched.get((channel, row), ()), single.get((channel, 0), ()), strict=True
                    )
                )
                kind = "rounded_otherwise" if moved else "alike"
                difference = float((first[condition, row] - logits[0]).abs().max())
                largest[kind] = max(largest[kind], difference)
                found["answers"] += 1
                found["rounded_otherwise"] += moved
                found["differ"] += differ
                found["differ_without_reason"] += differ and not moved
        return found, largest


def stepped(ours: Tensor, theirs: Tensor) -> Tensor:
    """Where two received tensors differ by more than sums in another order do."""
    return (ours - theirs).abs() > 1e-3 * theirs.abs() + 1e-5 * theirs.abs().max()


@contextmanager
def arriving() -> Iterator[Arrived]:
    """What links deliver meanwhile, by channel and row, in either way."""
    pass_through, receive, send = Endpoint.simulate_each, Endpoint.receive, Endpoint.send
    found: Arrived = {}
    channels: list[Channel] = []

    def keep(
        endpoint: Endpoint, channel: Channel, row: int, kept: int, cache: KVCache, at: int
    ) -> None:
        read = [cache.keys[layer] for layer in endpoint.key_layers]
        read += [cache.values[layer] for layer in endpoint.value_layers]
        found[channel, row] = [tensor[at, :, :kept] for tensor in read]

    def seen_pass_through(
        endpoint: Endpoint, asked: Sequence[Channel], cache: KVCache, chosen: Any
    ) -> Any:
        arrivals = pass_through(endpoint, asked, cache, chosen)
        for channel, arrived in zip(asked, arrivals, strict=True):
            for row, positions in enumerate(arrived.kept):
                if positions.sections:
                    keep(endpoint, channel, row, len(positions.tokens(0)), arrived.cache, row)
        return arrivals

    def seen_send(endpoint: Endpoint, channel: Channel, *sent: Any) -> bytes:
        channels[:] = [channel]
        return send(endpoint, channel, *sent)

    def seen_receive(endpoint: Endpoint, *packet: Any) -> tuple[Layout, KVCache]:
        layout, cache = receive(endpoint, *packet)
        keep(endpoint, channels[0], 0, layout.tokens, cache, 0)
        return layout, cache

    try:
        Endpoint.simulate_each, Endpoint.send, Endpoint.receive = (
            seen_pass_through,
            seen_send,
            seen_receive,
        )  # type: ignore[method-assign]
        yield found
    finally:
        Endpoint.simulate_each, Endpoint.send, Endpoint.receive = pass_through, send, receive  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
