"""Checkpoint files on disk: whole, and how much memory they will take. No tensor is read."""

import math
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from c2c.cache import Geometry, geometry
from latentwire.errors import LatentWireError, first_line
from latentwire.pairs.locate import LocatedPair, missing_shards


def weights_bytes(located: LocatedPair, dtype: torch.dtype) -> int:
    """What a pair takes in memory, from the shapes in its files' headers.

    Raises LatentWireError for a file that is missing, cut short or not a checkpoint.
    """
    numbers = sum(_model_numbers(folder) for folder in (located.receiver, located.sharer))
    return (numbers + _fuser_numbers(located.fuser)) * dtype.itemsize


def _model_numbers(folder: Path) -> int:
    missing = missing_shards(folder)
    if missing:
        raise LatentWireError(f"{folder} is incomplete: no {', '.join(missing)}")
    return sum(map(_safetensors_numbers, sorted(folder.glob("*.safetensors"))))


def _safetensors_numbers(path: Path) -> int:
    try:
        # It holds the header against the file's length, so a file cut short is seen here.
        with safe_open(path, framework="pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise LatentWireError(f"{path} is cut short or damaged: {first_line(error)}") from None


def _fuser_numbers(folder: Path) -> int:
    return sum(map(_projector_numbers, sorted(folder.glob("projector_*.pt"))))


def _projector_numbers(path: Path) -> int:
    """Numbers of a projector's tensors. Mapped, not read; loading checks every number later."""
    if not zipfile.is_zipfile(path):  # their table of contents stands at the end
        raise LatentWireError(f"{path} is cut short or no checkpoint of torch")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return sum(tensor.numel() for tensor in state.values())
    except Exception as error:  # an altered file trips the unpickler in many ways
        raise LatentWireError(f"{path} is damaged: {first_line(error)}") from None


def geometries(located: LocatedPair) -> tuple[Geometry, Geometry]:
    """(sharer, receiver) cache shapes, from the models' configurations.

    Raises LatentWireError for a configuration that cannot be read.
    """
    sharer, receiver = (_geometry(folder) for folder in (located.sharer, located.receiver))
    return sharer, receiver


def _geometry(folder: Path) -> Geometry:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise LatentWireError(
            f"{folder / 'config.json'} does not describe a model: {first_line(error)}"
        ) from None
    return geometry(config)
