"""Splits of the question sets that come with the bundled pair."""

from dataclasses import dataclass
from pathlib import Path

from latentwire.errors import LatentWireError
from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import Row, read_json_lines

BUNDLED_DIR = Path(__file__).parents[1] / "pairs" / "demo" / "data"


@dataclass(frozen=True)
class BundledSplit:
    """A split (`test` or `dev`) of a bundled set.

    Its hash is not pinned: the sets are made anew by `demo_pair`, and the hash is part of every
    condition's fingerprint, so results of two makings are never mixed.
    """

    name: str
    split: str

    expected = None
    on_hub = False

    @property
    def label(self) -> str:
        """See `Source`."""
        return self.split

    @property
    def file(self) -> str:
        """Its place among the bundled sets."""
        return f"{self.name}/{self.split}.jsonl"

    def read(self, data_dir: Path | None, download: bool = True) -> tuple[list[Row], str]:
        """See `Source`; `data_dir` holds downloads and is not looked at."""
        path = BUNDLED_DIR / self.name / f"{self.split}.jsonl"
        if not path.is_file():
            raise LatentWireError(
                f"{path}: the bundled set {self.name} is missing; make it with `mlflow run . -e"
                " demo_pair`"
            )
        return read_json_lines(path), str(path)


def bundled(name: str, evidence_field: str = "") -> MultipleChoice:
    """A bundled set as a task; `evidence_field` as of `MultipleChoice`. It is calibrated on its
    development questions, which are about other facts and were not trained on."""
    test, dev = BundledSplit(name, "test"), BundledSplit(name, "dev")
    return MultipleChoice(name, test, dev, evidence_field=evidence_field)
