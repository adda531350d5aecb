"""A question set, whole: its scored examples and what identifies them."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass

from latentwire.data.example import Example, parse_examples
from latentwire.data.rows import Row
from latentwire.errors import LatentWireError


@dataclass(frozen=True)
class Expected:
    """What a published set must hold, wherever it was read from."""

    rows: int  # all rows of the split
    scored: int
    hash: str  # see `content_hash`


@dataclass(frozen=True)
class Dataset:
    """The scored examples of one split."""

    name: str
    examples: tuple[Example, ...]  # scored ones only, in the split's order
    rows: int  # all rows of the split, unscored ones too
    hash: str  # see `content_hash`
    source: str  # where the rows were read, for people

    @property
    def option_counts(self) -> dict[int, int]:
        """Number of options -> how many scored questions have so many; the commonest first."""
        return dict(Counter(len(example.choices) for example in self.examples).most_common())


def content_hash(examples: tuple[Example, ...]) -> str:
    """sha256 (hex) of the examples as canonical JSON: every field of every one, in order.

    The same questions give the same hash whatever file or hub they came from.
    """
    canonical = json.dumps(
        [asdict(example) for example in examples], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def build_dataset(
    name: str, rows: list[Row], question_field: str, source: str, expected: Expected | None = None
) -> Dataset:
    """Parse a split's rows and check them against what the set must hold, if that is pinned.

    Raises `LatentWireError` for a malformed row, for a set with nothing to score, and for one that
    is not the expected set.
    """
    examples = parse_examples(rows, question_field)
    if not examples:
        raise LatentWireError(f"{source}: no question with a key A to D among {len(rows)} rows")
    dataset = Dataset(name, examples, len(rows), content_hash(examples), source)
    if expected is not None:
        _check(dataset, expected)
    return dataset


def _check(dataset: Dataset, expected: Expected) -> None:
    wrong = f"{dataset.source} is not the {dataset.name} set"
    if (dataset.rows, len(dataset.examples)) != (expected.rows, expected.scored):
        raise LatentWireError(
            f"{wrong}: expected {expected.rows} rows with {expected.scored} scored, found "
            f"{dataset.rows} with {len(dataset.examples)}"
        )
    if dataset.hash != expected.hash:
        raise LatentWireError(
            f"{wrong}: expected content hash {expected.hash}, found {dataset.hash}"
        )
