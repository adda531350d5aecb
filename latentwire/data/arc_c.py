"""ARC-Challenge, test split: grade-school science exams (Clark et al., arXiv:1803.05457).

22 of its 1172 rows have the keys 1 to 4 and are not scored. Of the 1150 others, some offer three
or five choices.
"""

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


def load(data_dir: Path | None) -> Dataset:
    """Read the test set from a folder of JSON lines, or from the hub without one.

    Raises `LatentWireError` when it cannot be had or is not the published set.
    """
    rows, source = read_published(HUB, FILE, data_dir)
    return build_dataset("arc_c", rows, "question", source, EXPECTED)
