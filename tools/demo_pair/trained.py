"""The trained part of the pair: both models and the fuser, made anew or taken from an earlier pair.

Question sets and outliers come after training and change nothing in it, so another choice of them
needs no training.
"""

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from c2c.cache import geometry
from c2c.checkpoint import load_fuser
from c2c.errors import C2CError
from c2c.load_model import load_model
from latentwire.errors import LatentWireError, first_line
from tools.demo_pair.answer_training import OnMetrics
from tools.demo_pair.config import DemoSettings
from tools.demo_pair.fuser_training import train_demo_fuser
from tools.demo_pair.measure import LivePair
from tools.demo_pair.receiver import train_receiver
from tools.demo_pair.sharer import train_sharer
from tools.demo_pair.world import World


@dataclass(frozen=True)
class Trained:
    """A pair, its weights rounded to bfloat16 and held in float32, and how it was trained."""

    pair: LivePair
    training: dict[str, Any]
    """`seed`, `device`, `versions`, `seconds` by stage, `last_metrics` by stage."""


def train(
    world: World,
    tokenizer: PreTrainedTokenizerFast,
    settings: DemoSettings,
    device: torch.device,
    seed: int,
    on_metrics: OnMetrics,
) -> Trained:
    """Train the sharer, the receiver, and then the fuser between them as they will be stored."""
    seconds: dict[str, float] = {}
    last: dict[str, dict[str, float]] = {}

    def noted(stage: str, figures: dict[str, float], step: int) -> None:
        last[stage] = last.get(stage, {}) | figures
        on_metrics(stage, figures, step)

    with stage("sharer", seconds, seed):
        sharer = train_sharer(world, tokenizer, settings, device, seed + 1, noted)
    with stage("receiver", seconds, seed):
        receiver = train_receiver(world, tokenizer, settings, device, seed + 3, noted)
    for model in (sharer, receiver):
        _round_to_bfloat16(model)
    with stage("fuser", seconds, seed):
        fuser = train_demo_fuser(
            world, tokenizer, receiver, sharer, settings, device, seed + 5, noted
        )
    _round_to_bfloat16(fuser)
    training = {
        "seed": seed,
        "device": device_name(device),
        "versions": versions(),
        "seconds": seconds,
        "last_metrics": last,
    }
    return Trained(LivePair(tokenizer, receiver, sharer, fuser), training)


def load_trained(
    folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, device: torch.device
) -> Trained:
    """The trained part of the pair in `folder`, which must have been made from the same seed.

    Raises `LatentWireError` when the folder holds no whole pair, or one of another world.
    """
    try:
        training = json.loads((folder / "build.json").read_text(encoding="utf-8"))["training"]
        made_from = training["seed"]
        saved = AutoTokenizer.from_pretrained(folder / "receiver", local_files_only=True)
        receiver, sharer = (
            load_model(folder / name, torch.float32, str(device)) for name in ("receiver", "sharer")
        )
        fuser = load_fuser(
            folder / "fuser" / "final",
            geometry(sharer.config),
            geometry(receiver.config),
            device=str(device),
        )
    except (OSError, ValueError, KeyError, TypeError, C2CError) as error:
        reason = first_line(error)
        raise LatentWireError(f"{folder} holds no whole pair: {reason}") from None
    if made_from != seed or saved.get_vocab() != tokenizer.get_vocab():
        raise LatentWireError(
            f"{folder} holds a pair of another world (seed {made_from}): give its seed and size"
        )
    return Trained(LivePair(tokenizer, receiver, sharer, fuser), training)


@contextmanager
def stage(name: str, seconds: dict[str, float], seed: int) -> Iterator[None]:
    """Seed a stage by itself, so that none depends on what an earlier one drew; time it."""
    torch.manual_seed(seed)
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 1)


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Of everything that can change the weights."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }


@torch.no_grad()
def _round_to_bfloat16(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        parameter.copy_(parameter.bfloat16().float())
