"""A question set, whole: its scored examples and what identifies them."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from latentwire.errors import LatentWireError, as_sentence
from latentwire.tasks.file_rows import as_mapping
from latentwire.tasks.rows import Expected, Row
from latentwire.tasks.task import Example, Options, Task

_TOLD = 3  # rows left out of which a warning says why

log = logging.getLogger("latentwire")


@dataclass(frozen=True)
class Dataset:
    """The scored examples of one split."""

    task: Task
    name: str
    examples: tuple[Example, ...]  # scored ones only, in the split's order
    rows: int  # all rows of the split, unscored ones too
    hash: str  # see `content_hash`
    source: str  # where the rows were read, for people
    left_out: tuple[str, ...] = ()  # malformed rows of a file of the user's, each with the reason

    def __str__(self) -> str:
        return self.name

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

    Raises `LatentWireError` for a malformed row (unless a task leaves these out), for a set with
    nothing to score, and for one that is not the expected set.
    """
    left_out: list[str] | None = [] if task.from_file else None
    examples = parse_examples(task, rows, left_out)
    if not examples:
        first = f"; the first is left out: {left_out[0]}" if left_out else ""
        raise LatentWireError(f"{place}: no {task.scored} among {len(rows)} rows{first}")
    name = f"{task.name} {label}".rstrip()
    found = len(rows), content_hash(examples), place, tuple(left_out or ())
    dataset = Dataset(task.fitted(examples), name, examples, *found)
    _tell(dataset)
    if expected is not None:
        _check(dataset, expected)
    return dataset


def parse_examples(
    task: Task, rows: Sequence[Row], left_out: list[str] | None = None
) -> tuple[Example, ...]:
    """Read a split's rows, each given with the place that names it; the scored ones, in order.

    Ids are unique over all rows of the split, unscored ones too. With `left_out`, each malformed
    row or repeated id goes there, in a sentence; else the first raises it as `LatentWireError`.
    """
    examples = []
    places: dict[str, str] = {}
    for index, (place, row) in enumerate(rows):
        try:
            fields = as_mapping(row)
            example, row_id = task.example(fields, index), task.row_id(fields, index)
            if row_id in places:
                raise ValueError(f"the id {row_id!r} was used before, at {places[row_id]}")
        except ValueError as error:
            if left_out is None:
                raise LatentWireError(f"{place}: {error}") from None
            left_out.append(as_sentence(f"{place}: {error}"))
            continue
        places[row_id] = place
        if example is not None:
            examples.append(example)
    return tuple(examples)


def _tell(dataset: Dataset) -> None:
    """Warn of the rows that were left out."""
    for sentence in dataset.left_out[:_TOLD]:
        log.warning("left out: %s", sentence)
    if len(dataset.left_out) > _TOLD:
        log.warning("and %d more rows of %s", len(dataset.left_out) - _TOLD, dataset.source)


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
