"""Questions that could not be answered under a condition: how many, and why.

They count as wrong in an accuracy. Where conditions are compared, a control or a yardstick gets no
blame for them: a question that another's cache, or 16 bits, could not answer is left out there, or
the gain would be too large and the loss too small.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from latentwire.controls.registry import in_place_of_own
from latentwire.errors import first_of
from latentwire.evaluation.record import Record
from latentwire.spec.names import condition_name

MOST_NAMED = 3  # conditions in a sentence
COLUMNS = {"": "unanswered"} | {name: f"{name}_unanswered" for name in in_place_of_own()}


def answered(records: Mapping[str, Record]) -> dict[str, Record]:
    """Without the questions that could not be answered, or not with a message of their length: what
    counts where conditions are compared."""
    return {
        name: record
        for name, record in records.items()
        if record.unanswered is None and record.donor_tokens is None
    }


def count(records: Iterable[Record]) -> int:
    """How many could not be answered."""
    return sum(record.unanswered is not None for record in records)


def commonest_reason(records: Iterable[Record]) -> str | None:
    """Why most of them could not be answered; the first of the alphabet among equals."""
    reasons = Counter(record.unanswered for record in records if record.unanswered is not None)
    return min(reasons, key=lambda reason: (-reasons[reason], reason), default=None)


def sentences(frame: pd.DataFrame) -> Iterator[str]:
    """What the rows of a budget curve say of it: one for all conditions of a dataset of which the
    same is to be said, none of rows whose questions all were answered."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in frame.to_dict("records"):
        counts = {control: int(row[column]) for control, column in COLUMNS.items()}
        if not any(counts.values()):
            continue
        own = f"{counts.pop('')} of {row['examples']} questions could not be answered"
        controls = [f"{number} under {name}" for name, number in counts.items() if number]
        also = f" (and {', '.join(controls)})" if controls else ""
        said = f"{own}{also} and count as wrong: {row['unanswered_reason']}"
        key = (row["pair"], row["source"], row["dataset"], said)
        alike.setdefault(key, []).append(condition_name(row))
    for (_, _, dataset, said), names in alike.items():
        more = f" and {len(names) - MOST_NAMED} other conditions" if len(names) > MOST_NAMED else ""
        yield f"{dataset}, {first_of(names[:MOST_NAMED], MOST_NAMED)}{more}: {said}"
