"""OpenBookQA, test split: elementary science facts, four choices (Mihaylov et al., EMNLP 2018)."""

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


def load(data_dir: Path | None) -> Dataset:
    """Read the test set from a folder of JSON lines, or from the hub without one.

    Raises `LatentWireError` when it cannot be had or is not the published set.
    """
    rows, source = read_published(HUB, FILE, data_dir)
    return build_dataset("openbookqa", rows, "question_stem", source, EXPECTED)
