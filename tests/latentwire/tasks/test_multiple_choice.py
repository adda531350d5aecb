"""Rows of the hub's schema."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.errors import LatentWireError
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.dataset import parse_examples
from latentwire.tasks.task import Example

ROW = {
    "id": "q1",
    "question": "Which?",
    "choices": {"text": ["one", "two", "three", "four"], "label": ["A", "B", "C", "D"]},
    "answerKey": "C",
}


def changed(**changes: object) -> dict[str, Any]:
    """ROW with fields replaced; `choices.text` and `choices.label` are written text= and label=."""
    row: dict[str, Any] = copy.deepcopy(ROW)
    for name, value in changes.items():
        (row["choices"] if name in ("text", "label") else row)[name] = value
    return row


def without(*path: str) -> dict[str, Any]:
    row: dict[str, Any] = copy.deepcopy(ROW)
    holder = row
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    return row


def test_row_becomes_an_example() -> None:
    expected = Example("q1", 7, "Which?", ("one", "two", "three", "four"), "C")
    assert TASK.example(changed(fact1="ignored"), 7) == expected


@pytest.mark.parametrize(
    ("labels", "key"),
    [(["1", "2", "3", "4"], "2"), (["A", "B", "C", "E"], "E"), (["D", "C", "B", "F"], "F")],
)
def test_other_keys_are_not_scored(labels: list[str], key: str) -> None:
    assert TASK.example(changed(label=labels, answerKey=key), 0) is None


def test_three_and_five_choices_are_scored() -> None:
    three = changed(text=["x", "y", "z"], label=["A", "B", "C"])
    five = changed(text=list("vwxyz"), label=list("ABCDE"))
    for row in (three, five):
        example = TASK.example(row, 0)
        assert example is not None and example.choices == tuple(row["choices"]["text"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "expected an object with named fields, got list"),
        (without("id"), "field 'id' is missing"),
        (without("question"), "field 'question' is missing"),
        (without("choices"), "field 'choices' is missing"),
        (without("choices", "label"), "field 'choices.label' is missing"),
        (without("answerKey"), "field 'answerKey' is missing"),
        (changed(id=3), "field 'id' must be text, got int"),
        (changed(question=None), "field 'question' must be text, got null"),
        (changed(question=" "), "field 'question' is empty"),
        (changed(question="\ud800"), "field 'question' holds characters that are not text"),
        (changed(choices=["one", "two"]), "field 'choices' must hold text and label, got list"),
        (changed(text="one"), "field 'choices.text' must be a list, got str"),
        (changed(text=["one", 2, "three", "four"]), "field 'choices.text[1]' must be text"),
        (changed(text=[], label=[]), "there are no choices"),
        (changed(text=["one"]), "there are 1 choices but 4 labels"),
        (
            changed(text=["x"] * 27, label=[str(i) for i in range(27)]),
            "there are 27 choices, more than there are letters",
        ),
        (changed(label=["A", "B", "C", "C"]), "a label stands twice among A, B, C, C"),
        (changed(answerKey="E"), "answerKey 'E' is not among the labels A, B, C, D"),
        (
            changed(label=["A", "C", "B", "D"]),
            "answerKey 'C' labels the choice that the prompt letters B by position",
        ),
    ],
)
def test_malformed_row_is_explained(row: object, message: str) -> None:
    with pytest.raises(LatentWireError) as caught:
        parse_examples(TASK, [("here", row)])
    assert str(caught.value).startswith("here: ") and message in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values),
    max_leaves=6,
)


@given(
    st.sampled_from([("id",), ("question",), ("choices",), ("answerKey",)])
    | st.sampled_from([("choices", "text"), ("choices", "label")]),
    json_values,
)
def test_any_value_anywhere_parses_or_is_explained(path: tuple[str, ...], value: object) -> None:
    row = copy.deepcopy(ROW)
    holder: dict[str, Any] = row
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    try:
        example = TASK.example(row, 0)
    except ValueError as error:
        assert str(error)
    else:
        assert example is None or example.choices["ABCD".index(example.answer)]


def test_index_counts_unscored_rows() -> None:
    unscored = changed(id="q0", label=["1", "2", "3", "4"], answerKey="1")
    examples = parse_examples(TASK, [("row 0", unscored), ("row 1", ROW)])
    assert [(x.id, x.index) for x in examples] == [("q1", 1)]


def test_malformed_row_is_named_by_its_place() -> None:
    rows: list[tuple[str, object]] = [("f, line 1", ROW), ("f, line 2", without("id"))]
    with pytest.raises(LatentWireError, match=r"^f, line 2: field 'id' is missing$"):
        parse_examples(TASK, rows)


def test_repeated_id_is_refused_even_when_not_scored() -> None:
    unscored = changed(label=["1", "2", "3", "4"], answerKey="1")
    with pytest.raises(LatentWireError, match=r"^b: the id 'q1' was used before, at a$"):
        parse_examples(TASK, [("a", unscored), ("b", ROW)])
