"""One multiple-choice question, and how a dataset's row becomes one."""

from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from latentwire.errors import LatentWireError

SCORED_KEYS = ("A", "B", "C", "D")
"""The keys that the published accuracies count; a row with another key is not asked at all."""


@dataclass(frozen=True)
class Example:
    """One scored question."""

    id: str
    index: int  # row of the split, counted from 0 before unscored rows are dropped
    question: str
    choices: tuple[str, ...]  # in the dataset's order; the prompt letters them by position
    answer: str  # the key: the letter, A to D, under which the prompt shows the right choice


def parse_example(row: object, index: int, question_field: str) -> Example | None:
    """Read one row of the hub's schema; None for a well-formed row that is not scored.

    The schema (allenai/openbookqa, allenai/ai2_arc) is `id`, the question under `question_field`,
    `choices` with the parallel lists `text` and `label`, and `answerKey`, one of the labels. Other
    fields are ignored.

    A row is scored when its key is A to D; ARC has keys 1 to 4 and E too. The protocol takes the
    key as it stands, while the prompt letters choices by position, so a scored row whose key names
    a choice at another position would be marked wrongly. The published sets hold none; one that
    does is refused.

    Raises `ValueError` with what is wrong; the caller knows the file and the line.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with named fields, got {_kind(row)}")
    example_id = _text(row, "id")
    question = _text(row, question_field)
    choices, labels = _choices(row)
    key = _text(row, "answerKey")
    if key not in labels:
        raise ValueError(f"answerKey {key!r} is not among the labels {', '.join(labels)}")
    if key not in SCORED_KEYS:
        return None
    shown_as = ascii_uppercase[labels.index(key)]
    if shown_as != key:
        raise ValueError(
            f"answerKey {key!r} labels the choice that the prompt letters {shown_as} by position"
        )
    return Example(example_id, index, question, choices, key)


def parse_examples(rows: list[tuple[str, object]], question_field: str) -> tuple[Example, ...]:
    """Read a split's rows, each given with the place that names it; the scored ones, in order.

    Ids are unique over all rows of the split, unscored ones too.

    Raises `LatentWireError` naming the place of the first malformed row or repeated id.
    """
    examples = []
    places: dict[str, str] = {}
    for index, (place, row) in enumerate(rows):
        try:
            example = parse_example(row, index, question_field)
        except ValueError as error:
            raise LatentWireError(f"{place}: {error}") from None
        assert isinstance(row, dict)  # or it would not have parsed
        row_id = row["id"]
        if row_id in places:
            raise LatentWireError(
                f"{place}: the id {row_id!r} was used before, at {places[row_id]}"
            )
        places[row_id] = place
        if example is not None:
            examples.append(example)
    return tuple(examples)


def _choices(row: dict[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    choices = _field(row, "choices")
    if not isinstance(choices, dict):
        raise ValueError(f"field 'choices' must hold text and label, got {_kind(choices)}")
    texts = _texts(choices, "text")
    labels = _texts(choices, "label")
    if not texts:
        raise ValueError("there are no choices")
    if len(texts) != len(labels):
        raise ValueError(f"there are {len(texts)} choices but {len(labels)} labels")
    if len(texts) > len(ascii_uppercase):
        raise ValueError(f"there are {len(texts)} choices, more than there are letters")
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label stands twice among {', '.join(labels)}")
    return tuple(texts), labels


def _texts(choices: dict[str, Any], name: str) -> list[str]:
    values = _field(choices, name, within="choices.")
    if not isinstance(values, list):
        raise ValueError(f"field 'choices.{name}' must be a list, got {_kind(values)}")
    return [_checked(value, f"choices.{name}[{i}]") for i, value in enumerate(values)]


def _text(row: dict[str, Any], name: str) -> str:
    return _checked(_field(row, name), name)


def _field(row: dict[str, Any], name: str, within: str = "") -> Any:
    if name not in row:
        raise ValueError(f"field '{within}{name}' is missing")
    return row[name]


def _checked(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"field '{name}' must be text, got {_kind(value)}")
    if not value.strip():
        raise ValueError(f"field '{name}' is empty")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
        raise ValueError(f"field '{name}' holds characters that are not text") from None
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
