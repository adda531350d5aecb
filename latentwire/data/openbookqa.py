"""OpenBookQA, test split: elementary science facts, four choices (Mihaylov et al., EMNLP 2018)."""

from dataclasses import replace
from pathlib import Path

from latentwire.data.dataset import Dataset, Expected, build_dataset
from latentwire.data.rows import HubSplit, read_published

HUB = HubSplit("allenai/openbookqa", "main", "test")
FILE = "openbookqa/test.jsonl"
EXPECTED = Expected(
    rows=500,
    scored=500,
    hash="a6dd64492f9479e34d82070fec590e9e4a640d81db42d94fc99b575af0710e4a",
)

TRAINING_HUB = replace(HUB, split="train")
TRAINING_FILE = "openbookqa/train.jsonl"
TRAINING_EXPECTED = Expected(
    rows=4957,
    scored=4957,
    hash="7299345d089ecc449ed1766e4a7d502ce1bdc8f9036a146e216363a17f305a9f",
)


def load(data_dir: Path | None, download: bool = True) -> Dataset:
    """Read the test set from a folder of JSON lines, or from the hub without one.

    Raises `LatentWireError` when it cannot be had or is not the published set.
    """
    rows, source = read_published(HUB, FILE, data_dir, download)
    return build_dataset("openbookqa", rows, "question_stem", source, EXPECTED)


def load_training(data_dir: Path | None, download: bool = True) -> Dataset:
    """The training split, likewise."""
    rows, source = read_published(TRAINING_HUB, TRAINING_FILE, data_dir, download)
    return build_dataset("openbookqa training", rows, "question_stem", source, TRAINING_EXPECTED)
