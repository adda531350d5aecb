"""ARC-Challenge, test split: grade-school science exams (Clark et al., arXiv:1803.05457).

22 of its 1172 rows have the keys 1 to 4 and are not scored. Of the 1150 others, some offer three
or five choices.
"""

from dataclasses import replace
from pathlib import Path

from latentwire.data.dataset import Dataset, Expected, build_dataset
from latentwire.data.rows import HubSplit, read_published

HUB = HubSplit("allenai/ai2_arc", "ARC-Challenge", "test")
FILE = "ai2_arc/ARC-Challenge/test.jsonl"
EXPECTED = Expected(
    rows=1172,
    scored=1150,
    hash="2f892252b165b22b7e9b4265544f2c2b8908ee02dafe085387ab095346a546b9",
)

TRAINING_HUB = replace(HUB, split="train")
TRAINING_FILE = "ai2_arc/ARC-Challenge/train.jsonl"
TRAINING_EXPECTED = Expected(
    rows=1119,
    scored=1096,
    hash="33f2505b76c2fe8c7ff3a57352c93287d5dba37c60e7d62f855b5058eb7f1738",
)


def load(data_dir: Path | None, download: bool = True) -> Dataset:
    """Read the test set from a folder of JSON lines, or from the hub without one.

    Raises `LatentWireError` when it cannot be had or is not the published set.
    """
    rows, source = read_published(HUB, FILE, data_dir, download)
    return build_dataset("arc_c", rows, "question", source, EXPECTED)


def load_training(data_dir: Path | None, download: bool = True) -> Dataset:
    """The training split, likewise."""
    rows, source = read_published(TRAINING_HUB, TRAINING_FILE, data_dir, download)
    return build_dataset("arc_c training", rows, "question", source, TRAINING_EXPECTED)
