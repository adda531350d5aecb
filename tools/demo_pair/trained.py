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
from transformers import PreTrainedTokenizerFast

from c2c.errors import C2CError
from c2c.fuser import Fuser
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import IDENTITY_BYTES
from latentwire.environment import device_kind
from latentwire.errors import LatentWireError, first_line
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.pairs.pair import FileSource, Pair
from latentwire.session.pair_in_use import PairInUse
from tools.demo_pair.answer_training import OnMetrics
from tools.demo_pair.config import DemoSettings
from tools.demo_pair.fuser_training import train_demo_fuser
from tools.demo_pair.receiver import train_receiver
from tools.demo_pair.sharer import train_sharer
from tools.demo_pair.world import World


@dataclass(frozen=True)
class Trained:
    """A pair, its weights rounded to bfloat16 and held in float32, and how it was trained."""

    pair: LoadedPair
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
    endpoint = Endpoint.of(fuser, bytes(IDENTITY_BYTES))  # whatever its name: nothing is sent
    return Trained(LoadedPair(receiver, sharer, fuser, tokenizer, endpoint), training)


def load_trained(
    folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, device: torch.device
) -> Trained:
    """The trained part of the pair in `folder`, which must have been made from the same seed.

    Raises `LatentWireError` when the folder holds no whole pair, or one of another world.
    """
    try:
        training = json.loads((folder / "build.json").read_text(encoding="utf-8"))["training"]
        made_from = training["seed"]
        receiver, sharer, fuser = (
            FileSource(path=folder / name) for name in ("receiver", "sharer", "fuser/final")
        )
        found = Pair("demo", "", receiver, sharer, fuser, datasets=(), shared_tokenizer=True)
        pair = PairInUse(found, str(device), "float32", may_download=False).in_memory
    except (OSError, ValueError, KeyError, TypeError, LatentWireError, C2CError) as error:
        reason = first_line(error)
        raise LatentWireError(f"{folder} holds no whole pair: {reason}") from None
    if made_from != seed or pair.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise LatentWireError(
            f"{folder} holds a pair of another world (seed {made_from}): give its seed and size"
        )
    return Trained(pair, training)


def fuser_of(pair: LoadedPair) -> Fuser:
    """Its fuser: the pair has no other interface."""
    assert isinstance(pair.interface, Fuser)
    return pair.interface


def gates(fuser: Fuser) -> dict[str, list[bool]]:
    """Which gates are open, by receiver layer."""
    return {
        kind: [fuser.projector(layer).is_open(kind) for layer in fuser.layer_map]
        for kind in ("key", "value")
    }


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
        return device_kind(str(device))
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
