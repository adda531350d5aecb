"""Checkpoint files on disk: whole, and how much memory they will take. No tensor is read."""

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from c2c.errors import C2CError
from c2c.load_model import read_config
from c2c.slot_cache import require_batches
from latentwire.errors import LatentWireError, first_line
from latentwire.pairs.locate import LocatedPair, missing_shards


def weights_bytes(located: LocatedPair, dtype: torch.dtype) -> int:
    """What a pair takes in memory, from the shapes in its files' headers.

    Raises LatentWireError for a file that is missing, cut short or not a checkpoint.
    """
    numbers = sum(_model_numbers(folder) for folder in {located.receiver, located.sharer})
    if located.fuser:
        numbers += sum(map(_projector_numbers, sorted(located.fuser.glob("projector_*.pt"))))
    return numbers * dtype.itemsize


def _model_numbers(folder: Path) -> int:
    missing = missing_shards(folder)
    if missing:
        raise LatentWireError(f"{folder} is incomplete: no {', '.join(missing)}")
    files = sorted(folder.glob("*.safetensors"))
    return sum(math.prod(shape) for path in files for shape in _shapes(path).values())


def _shapes(path: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from a file's header."""
    try:
        # It holds the header against the file's length, so a file cut short is seen here.
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise LatentWireError(f"{path} is cut short or damaged: {first_line(error)}") from None


def _projector_numbers(path: Path) -> int:
    """Numbers of a projector's tensors. Mapped, not read; loading checks every number later."""
    if not zipfile.is_zipfile(path):  # their table of contents stands at the end
        raise LatentWireError(f"{path} is cut short or no checkpoint of torch")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return sum(tensor.numel() for tensor in state.values())
    except Exception as error:  # an altered file trips the unpickler in many ways
        raise LatentWireError(f"{path} is damaged: {first_line(error)}") from None


def configs(located: LocatedPair) -> tuple[Any, Any]:
    """(sharer, receiver) configurations of models that can be evaluated.

    Raises LatentWireError for one that cannot, and for weights that are not the configuration's.
    """
    sharer, receiver = (_config(folder) for folder in (located.sharer, located.receiver))
    return sharer, receiver


def _config(folder: Path) -> Any:
    try:
        config = read_config(folder)
        require_batches(config)
    except C2CError as error:
        raise LatentWireError(str(error)) from None
    _require_heads(folder, config)
    return config


def _require_heads(folder: Path, config: Any) -> None:
    """LatentWireError for an embedding of another size than configured, or no output matrix.

    By the names that nearly all decoders have; others are seen when they are loaded.
    """
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes |= _shapes(path)
    embedding = shapes.get("model.embed_tokens.weight")
    if embedding is None:
        return
    text = config.get_text_config()
    if embedding[0] != text.vocab_size:
        raise LatentWireError(
            f"{folder}: the embedding has {embedding[0]} rows, config.json says vocab_size"
            f" {text.vocab_size}; take both from one checkpoint"
        )
    if "lm_head.weight" not in shapes and not getattr(text, "tie_word_embeddings", True):
        raise LatentWireError(
            f"{folder} does not hold a whole model: lm_head.weight is missing, and config.json does"
            " not tie it to the embedding"
        )
