"""What is kept of one example under one condition."""

import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from latentwire.controls.registry import is_lent
from latentwire.errors import LatentWireError
from latentwire.evaluation.reading import read_alone
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question


@dataclass(frozen=True)
class Record:
    """One example's outcome; one line of ``records.jsonl``."""

    example_id: str
    index: int  # row of the dataset's split, counted from 0 before unscored rows are dropped
    answer: str  # the key
    predicted: str | None  # the answer read from `output`; None when it yields none
    correct: bool  # by the task, as `predicted` and `score` are
    prompt_tokens: int
    generated_tokens: int
    wire_bytes: int  # length of the packet that crossed the wire for this example
    output: str
    donor_id: str | None = None  # whose message was sent, under a control that lends one
    donor_answer: str | None = None
    elements: int = 0  # numbers of the sharer's cache that the packet stands for
    message: str | None = None  # what was sent, where that is text or a letter
    unanswered: str | None = None  # why there is no answer; it counts as wrong
    score: float | None = None  # 0 to 1, where it is not as `correct` says; see `value`
    cluster: str | None = None  # what it shares with other questions: a passage
    budget_bytes: int | None = None  # most that its packet could have, where there was a budget
    cut_characters: int | None = None  # of a text, how many did not fit that budget
    # Of the donor's prompt, where its message was brought to the question's length (`places`)
    donor_tokens: int | None = None
    # Of each option as the answer's first token (`option_logprobs`). It makes no other outcome.
    option_logprobs: dict[str, float] | None = field(default=None, compare=False)

    @property
    def value(self) -> float:
        """Its score, 0 to 1: 1 or 0 where the answer is just right or wrong."""
        return float(self.correct) if self.score is None else self.score

    @property
    def unused_bytes(self) -> int | None:
        """What its packet left of its budget; None without a budget, or an answer."""
        answered = self.unanswered is None and self.budget_bytes is not None
        return self.budget_bytes - self.wire_bytes if answered else None  # type: ignore[operator]


# Fields that stand only where they say something.
_RARE = (
    *("unanswered", "score", "cluster", "budget_bytes", "cut_characters"),
    *("donor_tokens", "option_logprobs"),
)
# Fields that records of earlier versions lack.
_LATER = {"elements", "message", *_RARE}
_KINDS = {
    name: tuple(get_origin(each) or each for each in get_args(kind) or (kind,))
    for name, kind in get_type_hints(Record).items()
}
_WHITE = " \t\n\r"  # what JSON has around a value
_decode = json.JSONDecoder().raw_decode


def source_of(control: str, question: Question, donor: Question) -> Question:
    """The question that the sharer reads."""
    return donor if is_lent(control) else question


def make_record(
    condition: Condition, question: Question, donor: Question, answer: str | None, **told: Any
) -> Record:
    """The record of an answer, which the task grades; None where there is none. `told` are fields
    that are not as of an answer that nobody wrote and for which nothing was sent."""
    lent, read = is_lent(condition.control), read_alone(condition, question)
    plain = {"generated_tokens": 0, "wire_bytes": 0, "output": ""}
    return Record(
        example_id=question.example.id,
        index=question.example.index,
        answer=question.example.answer,
        donor_id=donor.example.id if lent else None,
        donor_answer=donor.example.answer if lent else None,
        **question.graded(answer),
        **{"prompt_tokens": len(read), **plain, **told},
    )


def unanswered(condition: Condition, question: Question, donor: Question, reason: str) -> Record:
    """The record of a question that cannot be answered: wrong, without an output or a byte."""
    return make_record(condition, question, donor, None, unanswered=reason)


def record_lines(records: Iterable[Record]) -> str:
    """One JSON object a line."""
    # The computing process waits for this, and `asdict`, which copies, took two thirds of it.
    encode = json.JSONEncoder(ensure_ascii=False).encode
    return "".join(encode(_row(record)) + "\n" for record in records)


def _row(record: Record) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(record).items()
        if value is not None or name not in _RARE
    }


def read_records(path: Path) -> list[Record]:
    """Read `record_lines` from a file in UTF-8; a malformed line is named by file and line."""
    return parse_records(path.read_bytes(), path)


def parse_records(text: bytes, place: object) -> list[Record]:
    """The same from a file's content; `place` names it."""
    records = []
    for number, line in enumerate(io.BytesIO(text), start=1):
        try:
            row = _json_object(line.decode().strip(_WHITE))
            _require_fields(tuple(row), tuple(map(type, row.values())))
            _require_logprobs(row.get("option_logprobs") or {})
            records.append(Record(**row))
        except (ValueError, TypeError, RecursionError) as error:
            raise LatentWireError(f"{place}, line {number}: not a record: {error}") from None
    return records


def _json_object(text: str) -> dict[str, Any]:
    """As json.loads, which takes half as long again to look for white space around it."""
    found, end = _decode(text)
    if end < len(text):
        raise ValueError(f"more follows after character {end}")
    if type(found) is not dict:
        raise TypeError(f"it is a {type(found).__name__}")
    return found


@lru_cache  # the lines of a study are alike
def _require_fields(names: tuple[str, ...], kinds: tuple[type, ...]) -> None:
    """ValueError or TypeError unless these are a record's fields, with values of these types."""
    if odd := (_KINDS.keys() - _LATER - set(names)) | (set(names) - _KINDS.keys()):
        raise ValueError(f"fields {sorted(odd)} are missing or unknown")
    for name, kind in zip(names, kinds, strict=True):
        if kind not in _KINDS[name]:
            raise TypeError(f"{name} is a {kind.__name__}")


def _require_logprobs(found: dict[str, Any]) -> None:
    """ValueError where some are no logarithms of probabilities."""
    for label, value in found.items():
        if type(value) is not float or not -math.inf < value <= 0:
            raise ValueError(f"option_logprobs of {label!r} is {value!r}")
