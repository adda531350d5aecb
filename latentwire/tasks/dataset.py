"""A question set, whole: its scored examples and what identifies them."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from latentwire.errors import LatentWireError
from latentwire.tasks.rows import Expected, Row, kind_of
from latentwire.tasks.task import Example, Options, Task


@dataclass(frozen=True)
class Dataset:
    """The scored examples of one split."""

    task: Task
    name: str
    examples: tuple[Example, ...]  # scored ones only, in the split's order
    rows: int  # all rows of the split, unscored ones too
    hash: str  # see `content_hash`
    source: str  # where the rows were read, for people

    @property
    def private(self) -> bool:
        """Whether the sharer alone reads the evidence."""
        return any(example.evidence for example in self.examples)

    @property
    def option_counts(self) -> dict[Options, int]:
        """What can be answered -> to how many scored questions; the commonest first."""
        return dict(Counter(map(self.task.options, self.examples)).most_common())


def content_hash(examples: Sequence[Example]) -> str:
    """sha256 (hex) of the examples as canonical JSON: every field of every one, in order.

    The same questions give the same hash whatever file or hub they came from.
    """
    canonical = json.dumps(
        [asdict(example) for example in examples], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def build_dataset(
    task: Task, rows: Sequence[Row], place: str, label: str = "", expected: Expected | None = None
) -> Dataset:
    """The dataset of a split's rows, which were read at `place`; checked against what the set must
    hold, if that is pinned. `label` is of the split, empty for the one that is scored.

    Raises `LatentWireError` for a malformed row, for a set with nothing to score, and for one that
    is not the expected set.
    """
    examples = parse_examples(task, rows)
    if not examples:
        raise LatentWireError(f"{place}: no {task.scored} among {len(rows)} rows")
    name = f"{task.name} {label}".rstrip()
    dataset = Dataset(task, name, examples, len(rows), content_hash(examples), place)
    if expected is not None:
        _check(dataset, expected)
    return dataset


def parse_examples(task: Task, rows: Sequence[Row]) -> tuple[Example, ...]:
    """Read a split's rows, each given with the place that names it; the scored ones, in order.

    Ids are unique over all rows of the split, unscored ones too.

    Raises `LatentWireError` naming the place of the first malformed row or repeated id.
    """
    examples = []
    places: dict[str, str] = {}
    for index, (place, row) in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise ValueError(f"expected an object with named fields, got {kind_of(row)}")
            example, row_id = task.example(row, index), task.row_id(row, index)
        except ValueError as error:
            raise LatentWireError(f"{place}: {error}") from None
        if row_id in places:
            raise LatentWireError(
                f"{place}: the id {row_id!r} was used before, at {places[row_id]}"
            )
        places[row_id] = place
        if example is not None:
            examples.append(example)
    return tuple(examples)


def _check(dataset: Dataset, expected: Expected) -> None:
    wrong = f"{dataset.source} is not the {dataset.name} set"
    if (dataset.rows, len(dataset.examples)) != (expected.rows, expected.scored):
        raise LatentWireError(
            f"{wrong}: expected {expected.rows} rows with {expected.scored} scored, found "
            f"{dataset.rows} with {len(dataset.examples)}"
        )
    if expected.hash and dataset.hash != expected.hash:
        raise LatentWireError(
            f"{wrong}: expected content hash {expected.hash}, found {dataset.hash}"
        )
