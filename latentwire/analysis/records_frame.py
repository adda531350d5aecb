"""Answers as a data frame: a row for each question under each condition and control."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from latentwire.analysis.curve import ConditionResult
from latentwire.evaluation.record import Record
from latentwire.spec.axes import AXES

_OF_RECORD = {
    "example_id": "string",
    "index": "int64",
    "answer": "string",
    "predicted": "string",
    "correct": "bool",
    "score": "float64",
    **dict.fromkeys(("prompt_tokens", "generated_tokens", "wire_bytes", "elements"), "int64"),
    **dict.fromkeys(("output", "message", "unanswered", "cluster"), "string"),
    **dict.fromkeys(("donor_id", "donor_answer"), "string"),
}
_OF_PART = {
    **dict.fromkeys(("pair", "dataset", "source"), "string"),
    **{name: axis.column for name, axis in AXES.items()},
}
COLUMNS = {**_OF_PART, **_OF_RECORD}
"""Column -> pandas type, in order."""


def records_frame(parts: Iterable[ConditionResult]) -> pd.DataFrame:
    """The answers of some conditions, in their order; every column is there without any too."""
    rows = [_row(part, record) for part in parts for record in part.records]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _row(part: ConditionResult, record: Record) -> dict[str, Any]:
    own = {name: getattr(record, name) for name in _OF_RECORD}
    return {**{name: getattr(part, name) for name in _OF_PART}, **own, "score": record.value}
