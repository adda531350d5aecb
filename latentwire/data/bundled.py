"""Question sets that come with the bundled pair, in ARC's form."""

from pathlib import Path

from latentwire.data.dataset import Dataset, build_dataset
from latentwire.data.rows import read_json_lines
from latentwire.errors import LatentWireError

BUNDLED_DIR = Path(__file__).parents[1] / "pairs" / "demo" / "data"


def load_bundled(name: str, split: str = "test") -> Dataset:
    """Read a split (`test` or `dev`) of a bundled set.

    Its hash is not pinned: the sets are made anew by `demo_pair`, and the hash is part of every
    condition's fingerprint, so results of two makings are never mixed.

    Raises `LatentWireError` when the files are missing or malformed.
    """
    path = BUNDLED_DIR / name / f"{split}.jsonl"
    if not path.is_file():
        raise LatentWireError(
            f"{path}: the bundled set {name} is missing; make it with `mlflow run . -e demo_pair`"
        )
    title = name if split == "test" else f"{name} {split}"
    return build_dataset(title, read_json_lines(path), "question", str(path))
