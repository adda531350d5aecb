"""Seconds of a training step, with the next batch read ahead and without, and layer by layer.

    PYTHONPATH=.:C2C python benchmarks/training_speed.py --output training.json

Receiver and sharer have the shapes of Qwen2.5 0.5B and 1.5B and random weights: 64 prompts of 138
tokens a step, a fuser of 88 M. All ways are timed in turns in one run:

read ahead      as training does on a GPU: a thread reads the next batch during the backward pass
in one stream   the same, but both threads ask for work in one stream
in turn         a batch is read when it is its turn
layer by layer  so too, and the fuser's layers one after the other

The floor counts the operations that a step needs, from shapes, over the rates of large products on
this device. A whole step is `c2c.training.train_fuser`'s, with its optimizer and the numbers it
tells.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import random_pair
import torch
from flops import ModelFlops, matmul_flops, synchronize
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from c2c import reading_ahead, stacked_fuser
from c2c.cache import geometry
from c2c.fast_ops import fast_steps
from c2c.fuser import Fuser, new_fuser
from c2c.on_device import on_device
from c2c.processes import ALONE, Processes
from c2c.projector import ProjectorSize
from c2c.training import TrainingSettings, train_fuser
from c2c.training_readings import Batch

RECEIVER = random_pair.SHARER  # of Qwen2.5 0.5B
SHARER = Qwen2Config(
    **RECEIVER.to_dict()
    | {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "layer_types": None,  # as many as there are layers
    }
)
SMALL = {"vocab_size": 512, "num_hidden_layers": 2, "layer_types": None, "intermediate_size": 64}
WAYS = ("read ahead", "in one stream", "in turn", "layer by layer")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What says how large a step is, and how often it is timed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=138)
    parser.add_argument("--answer-tokens", type=int, default=7)
    parser.add_argument("--hidden-dim", type=int, default=512)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each way in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="tiny shapes: to see that it runs")
    parser.add_argument("--output", type=Path)
    return parser


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--profile", action="store_true", help="print what takes the time")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("high")
    receiver, sharer, fuser = models(device, options.small, options.hidden_dim)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.turns):
        for way in WAYS:
            with _in_the(way):
                seconds[way] += steps(receiver, sharer, fuser, options)
    if options.profile:
        _profile(receiver, sharer, fuser, options)
    result = _result(seconds, _floor(receiver, sharer, fuser, options, device), device)
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


def models(
    device: torch.device, small: bool, hidden_dim: int
) -> tuple[PreTrainedModel, PreTrainedModel, Fuser]:
    configs = [Qwen2Config(**c.to_dict() | (SMALL if small else {})) for c in (RECEIVER, SHARER)]
    torch.manual_seed(1)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        receiver, sharer = (Qwen2ForCausalLM(config).to(dtype) for config in configs)
    size = ProjectorSize(hidden_dim, hidden_dim)
    fuser = new_fuser(geometry(configs[1]), geometry(configs[0]), size).to(device)
    for projector in fuser.projectors:
        for kind in ("key", "value"):
            projector.get_parameter(f"{kind}_gate_logit").data.fill_(1.0)
    return receiver, sharer, fuser


@contextmanager
def _in_the(way: str) -> Iterator[None]:
    ahead = way in WAYS[:2]
    with ExitStack() as stack:
        patch = lambda *changed: stack.enter_context(mock.patch.object(*changed))  # noqa: E731
        patch(reading_ahead, "is_worth_it", lambda device: ahead)
        if way == "in one stream" and torch.cuda.is_available():
            patch(reading_ahead, "stream_beside", torch.cuda.current_stream)
        if way == "layer by layer":
            patch(stacked_fuser, "vmap", _one_by_one)
        yield


def _one_by_one(function: Any, randomness: str) -> Any:
    """As `vmap`, with a call for each layer."""

    def mapped(weights: Mapping[str, torch.Tensor], *tensors: torch.Tensor) -> list[torch.Tensor]:
        return [
            function({name: weight[index] for name, weight in weights.items()}, *parts)
            for index, parts in enumerate(zip(*tensors, strict=True))
        ]

    return mapped


def steps(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    fuser: Fuser,
    options: argparse.Namespace,
    processes: Processes = ALONE,
) -> list[float]:
    """Seconds of each step after two that are not counted."""
    device = next(fuser.parameters()).device
    vocabulary = receiver.config.vocab_size
    draw = torch.Generator().manual_seed(3)

    def batch(number: int) -> Batch:
        prompts, answers = (
            on_device(
                torch.randint(vocabulary, (options.batch_size, tokens), generator=draw),
                options.device,
            )
            for tokens in (options.prompt_tokens, options.answer_tokens)
        )
        return Batch(prompts, answers)

    ends: list[float] = []

    def after_step(step: int, metrics: Mapping[str, float]) -> None:
        synchronize(device)
        ends.append(time.perf_counter())

    settings = TrainingSettings(options.steps + 2, learning_rate=5e-4, partial_share=0.2)
    with fast_steps(receiver, sharer):
        train_fuser(
            receiver, sharer, fuser, batch, settings, on_step=after_step, processes=processes
        )
    return [after - before for before, after in pairwise(ends[1:])]


def _floor(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    fuser: Fuser,
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, float]:
    """Operations of a step, and the seconds that they take at this device's rates.

    Of frozen weights a backward pass needs the gradient by inputs alone: as much again as the
    forward pass; of the fuser's it needs that by weights too.
    """
    n, m = options.prompt_tokens, options.answer_tokens
    read, answered = ModelFlops(sharer), ModelFlops(receiver)
    answer = answered.span(n - 1, n + m) + (m + 1) * answered.head_flops
    frozen = read.span(0, n - 1) + answered.span(0, n - 1) + 2 * answer
    weights = sum(p.numel() for p in fuser.parameters() if p.dim() == 2)
    models, fused = options.batch_size * frozen, 3 * options.batch_size * (n - 1) * 2 * weights
    rates = matmul_flops(device), matmul_flops(device, torch.float32)
    return {
        "model_flop": models,
        "fuser_flop": fused,
        "bf16_flop_per_s": rates[0],
        "tf32_flop_per_s": rates[1],
        "floor_s": models / rates[0] + fused / rates[1],
    }


def _result(
    seconds: Mapping[str, list[float]], floor: dict[str, float], device: torch.device
) -> dict[str, Any]:
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": name,
        "torch": torch.__version__,
        **{f"{way.replace(' ', '_')}_s": medians[way] for way in WAYS},
        "ratio": medians["in turn"] / medians["read ahead"],
        **floor,
        "utilization": floor["floor_s"] / medians["read ahead"],
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if name != "CPU" else None,
    }


def _profile(
    receiver: PreTrainedModel, sharer: PreTrainedModel, fuser: Fuser, options: argparse.Namespace
) -> None:
    with torch.profiler.profile() as profile:
        steps(receiver, sharer, fuser, argparse.Namespace(**vars(options) | {"steps": 3}))
    for order in ("self_device_time_total", "self_cpu_time_total"):
        print(profile.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60))


if __name__ == "__main__":
    main()
