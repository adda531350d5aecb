"""The bundled pair's set `demo_facts`: facts that the sharer knows and the receiver does not."""

from pathlib import Path

from latentwire.data.bundled import load_bundled
from latentwire.data.dataset import Dataset


def load(data_dir: Path | None, download: bool = True) -> Dataset:
    """Read the set that comes with the package; `data_dir` holds downloads and is not looked at.

    Raises `LatentWireError` when the files are missing or malformed.
    """
    return load_bundled("demo_facts")


def load_training(data_dir: Path | None, download: bool = True) -> Dataset:
    """Its development questions, which are about other facts and were not trained on."""
    return load_bundled("demo_facts", "dev")
