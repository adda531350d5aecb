"""A user's own questions: a file in one of several forms, hostile until it is parsed."""

import csv
import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentwire.errors import LatentWireError
from latentwire.parameters import DATASET
from latentwire.tasks import file_rows
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.file_kinds import strict_letter
from latentwire.tasks.own_set import own_set
from latentwire.tasks.registry import load_training, task_of_records

HUB: list[dict[str, Any]] = [
    {
        "id": f"q{number}",
        "question_stem": f"How many is {number}?",
        "choices": {"text": ["none", "one", "two"], "label": ["1", "2", "3"]},
        "answerKey": str(number + 1),
    }
    for number in range(3)
]
FLAT = [
    {"stem": "What is red?", "first": "sky", "second": "blood", "right": "second one"},
    {"stem": "What is blue?", "first": "sky", "second": "blood", "right": "sky"},
]


def write(path: Path, rows: list[Any], yaml: str = "") -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if yaml:
        path.with_suffix(".yaml").write_text(yaml)
    return str(path)


def row(**changed: Any) -> dict[str, Any]:
    return {"question": "Which?", "choices": ["x", "y"], "answer": "A"} | changed


def keys(found: Dataset) -> str:
    return "".join(example.answer for example in found.examples)


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], object]] = {
    "jsonl": lambda path, rows: path.write_text("".join(json.dumps(r) + "\n" for r in rows)),
    "json": lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
    "csv": _csv,
    "parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", WRITERS)
def test_the_same_rows_are_the_same_set_in_every_form(
    tmp_path: Path, form: str, packed: bool
) -> None:
    path = tmp_path / f"mine.{form}"
    rows = [{"question": f"{n}?", "A": "x,\ny", "B": "ü", "answer": "B"} for n in range(4)]
    WRITERS[form](path, rows)
    if packed:
        path.with_suffix(f".{form}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_suffix(f".{form}.gz")
    found = own_set(str(path))
    assert (found.name, found.rows, found.left_out) == ("mine", 4, ())
    assert found.examples[1].choices == ("x,\ny", "ü") and keys(found) == "BBBB"
    assert found.hash.startswith("7b71900c")  # whatever the form


def test_the_hubs_schema_needs_no_yaml(tmp_path: Path) -> None:
    found = own_set(write(tmp_path / "mine.jsonl", HUB))
    assert keys(found) == "ABC" and found.examples[2].id == "q2"
    assert "A. none\nB. one\nC. two\n" in found.task.prompt_text(found.examples[0])
    assert 'format: "The correct answer is A/B/C/D"' in found.task.prompt_text(found.examples[0])
    assert not found.private


def test_a_yaml_file_says_what_fields_are(tmp_path: Path) -> None:
    yaml = "name: colours\nquestion: stem\nchoices: [first, second]\nanswer: right\n"
    found = own_set(write(tmp_path / "mine.jsonl", FLAT, yaml))
    assert (found.name, keys(found), len(found.left_out)) == ("colours", "A", 1)
    assert found.left_out[0].endswith("row 1: its answer 'second one' is none of its choices")
    assert found.examples[0].id == "2"  # the number of its row
    nested = [{"q": {"text": "Why?"}, "answer": "B", "choices": ["x", "y"]}]
    assert own_set(write(tmp_path / "deep.jsonl", nested, "question: q.text\n")).examples


@pytest.mark.parametrize(
    ("answer", "key"), [("B", "B"), (1, "B"), ("1", "B"), ("y", "B"), (0, "A"), ("x", "A")]
)
def test_an_answer_is_a_letter_a_number_or_a_text(tmp_path: Path, answer: Any, key: str) -> None:
    assert keys(own_set(write(tmp_path / "mine.jsonl", [row(answer=answer)]))) == key


def test_a_number_that_is_a_choice_is_taken_where_it_means_one_alone(tmp_path: Path) -> None:
    rows = [
        row(choices=["0", "1", "2"], answer=1),
        row(choices=["7", "8", "9"], answer="9"),
        row(choices=["1", "2", "3"], answer=3),
    ]
    assert keys(own_set(write(tmp_path / "mine.jsonl", rows))) == "BCC"


def test_answers_counted_from_one_are_never_taken_for_the_choice_beside(tmp_path: Path) -> None:
    rows = [row(answer=1), row(answer=2)]
    with pytest.raises(LatentWireError, match="counted from 1: say `answers_from: 1`"):
        own_set(write(tmp_path / "mine.jsonl", rows))
    found = own_set(write(tmp_path / "mine.jsonl", rows, "answers_from: 1\n"))
    assert keys(found) == "AB"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "expected an object with named fields, got list"),
        (row(question=" "), "field 'question' is empty"),
        (row(question=3), "field 'question' must be text, got int"),
        (row(choices=["x"]), "there are 1 choices, not 2 to 26"),
        (row(choices=[f"{n}." for n in range(27)]), "there are 27 choices, not 2 to 26"),
        (row(choices=["x", "x"]), "a choice stands twice"),
        (row(choices="x or y"), "field 'choices' must be a list, got str"),
        (row(choices={"text": ["x", "y"], "label": ["A", "A"]}), "2 choices have 1 different"),
        (row(choices=["B", "A"], answer="A"), "its answer 'A' is more than one of its choices"),
        (row(choices=["2", "1", "0"], answer=0), "its answer '0' is more than one of its choices"),
        (row(choices=["4", "3", "1"], answer="1"), "its answer '1' is more than one"),
        (row(answer="z"), "its answer 'z' is none of its choices"),
        (row(answer=-1), "its answer '-1' is none"),
        (row(answer=None), "field 'answer' must be text, got null"),
        (row(answer=True), "field 'answer' must be text, got bool"),
    ],
)
def test_a_bad_row_is_left_out_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: Any, said: str
) -> None:
    found = own_set(write(tmp_path / "mine.jsonl", [row(), bad, row(answer="B")]))
    assert keys(found) == "AB" and found.rows == 3
    assert found.examples[1].index == 2
    (sentence,) = found.left_out
    assert f"mine.jsonl, row 2: {said}" in sentence
    assert sentence in caplog.text


def test_lines_that_are_no_json_and_ids_that_stand_twice_are_left_out(tmp_path: Path) -> None:
    lines = [json.dumps(row(id="a")), "{", "", json.dumps(row(id="a", answer="B")), '{"a":NaN}']
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    found = own_set(str(tmp_path / "mine.jsonl"))
    assert keys(found) == "A" and len(found.left_out) == 4
    assert "the id 'a' was used before, at" in found.left_out[2]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("mine.jsonl", b"", "it holds no rows"),
        ("mine.jsonl", b"{}\n", "neither choices nor a context"),
        ("mine.jsonl", b'{"choices": 1}\n', "no question with choices and a key among 1 rows; the"),
        ("mine.json", b"[1, 2", "not JSON"),
        ("mine.jsonl", b"\xff\xfe\xff", "save it as UTF-8"),
        ("mine.csv", b'a,b\n"x', "not CSV"),
        ("mine.csv", b"a,a\n1,2\n", "a name stands twice in its first line"),
        ("mine.parquet", b"PAR1 no", "not Parquet"),
        ("mine.jsonl.gz", b"no", "not gzip"),
        ("mine.txt", b"x", "its name must end in .jsonl, .json, .csv, .parquet"),
        ("openbookqa.jsonl", b"{}", "the file's name 'openbookqa' is a known question set's"),
        ("a:number.jsonl", b"{}", "must be letters, digits, blanks"),
    ],
)
def test_a_file_with_nothing_good_is_refused_in_one_sentence(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LatentWireError) as refused:
        DATASET.parse(str(tmp_path / name))
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("nmae: x", "unknown key 'nmae'"),
        ("name: arc_c", "the name 'arc_c' is a known question set's"),
        ("kind: essay", "key 'kind' must be one of multiple_choice, extractive, number"),
        ("answers_from: true", "key 'answers_from' must be 0 or 1"),
        ("question: [a]", "key 'question' must be the name of a field"),
    ],
)
def test_a_yaml_file_is_strict(tmp_path: Path, yaml: str, said: str) -> None:
    with pytest.raises(LatentWireError, match=said):
        own_set(write(tmp_path / "mine.jsonl", [row()], yaml))


def test_what_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_rows, "MOST_BYTES", 2**20)
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 2**22))
    with pytest.raises(LatentWireError, match="it holds more than 1 MiB"):
        own_set(str(path))


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [write(tmp_path / "mine.jsonl", [row()]), write(tmp_path / "b" / "mine.jsonl", [row()])]
    with pytest.raises(LatentWireError, match="two question sets are called mine"):
        DATASET.parse(",".join(paths))
    mine, known = DATASET.parse(f"{paths[0]}, demo_facts")
    assert (str(mine), known) == ("mine", "demo_facts")


def test_more_than_four_choices_name_and_read_all_their_letters(tmp_path: Path) -> None:
    many = row(choices=[f"{n}." for n in range(26)], answer=25)
    found = own_set(write(tmp_path / "mine.jsonl", [many, row()]))
    task, (wide, narrow) = found.task, found.examples
    assert wide.answer == "Z" and "A/B/C/D/E/" in task.prompt_text(wide)
    assert 'is A/B/C/D"' in task.prompt_text(narrow)
    assert task.extract("The correct answer is Z") == "Z"
    assert task.extract("Nothing here is one") is None  # the published rule would say N
    assert len(task.options(wide).labels) == 26 and task.options(narrow).labels == ("A", "B")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("F", "F"),
        ("(F) foo", "F"),
        ("I think the answer is G.", "G"),
        ("Answer: H, and not A", "H"),
        ("A dog. Then B", "B"),
        ("The correct answer is A because B is not", "A"),
        ("Answer: **A** or so", "A"),
        ("I'm F", "F"),
        ("fish", None),
        ("", None),
    ],
)
def test_a_letter_among_many(text: str, letter: str | None) -> None:
    assert strict_letter(text, "ABCDEFGHI") == letter


def test_a_context_is_the_sharers_alone(tmp_path: Path) -> None:
    rows = [row(context="Roses are red."), row()]
    found = own_set(write(tmp_path / "mine.jsonl", rows))
    assert found.private and found.examples[0].evidence == "Roses are red."
    assert "Roses" not in found.task.prompt_text(found.examples[0])
    assert "row 2: field 'context' is missing" in found.left_out[0]  # never half of a set


def test_words_of_a_passage_are_scored_by_f1(tmp_path: Path) -> None:
    squad = {"context": "It was red.", "question": "Which?", "answers": {"text": ["red", "so red"]}}
    rows = [squad, squad | {"answers": "red"}, squad | {"answers": {"text": []}}]
    found = own_set(write(tmp_path / "mine.jsonl", rows))
    assert found.name == "mine:extractive" and len(found.left_out) == 1
    assert found.task.metric == task_of_records(found.name).metric == "F1"
    assert found.task.score(found.examples[0].answer, "so red") == 1
    assert found.task.max_new_tokens == task_of_records(found.name).max_new_tokens == 32


def test_numbers_are_asked_as_gsm8k_is(tmp_path: Path) -> None:
    rows = [
        {"problem": "2 + 2?", "result": value}
        for value in (4, 4.5, "1,000", "so #### -7", "none", float(10**20))
    ]
    yaml = "kind: number\nquestion: problem\nanswer: result\n"
    found = own_set(write(tmp_path / "mine.jsonl", rows, yaml))
    answers = [example.answer for example in found.examples]
    assert answers == ["4", "4.5", "1000", "-7", "100000000000000000000"]
    assert found.name == "mine:number" and found.task.extract("The answer is 4.50") == "4.5"
    assert found.task.max_new_tokens == task_of_records(found.name).max_new_tokens == 320


def test_a_number_is_never_taken_for_its_last_digits(tmp_path: Path) -> None:
    values = ["1.5e-3", "2E+3", 1e-7, "so 3 of 4: 0.75", "3/4", "1 / 2 km", "2^10", "x" * 9]
    rows = [{"question": "How many?", "answer": value} for value in values]
    found = own_set(write(tmp_path / "mine.jsonl", rows, "kind: number\n"))
    answers = [example.answer for example in found.examples]
    assert answers == ["0.0015", "2000", "0.0000001", "0.75"]
    assert "row 5: its answer '3/4' is a fraction or a power" in found.left_out[0]


def test_what_is_scored_is_what_the_hash_says(tmp_path: Path) -> None:
    first = own_set(write(tmp_path / "mine.jsonl", [row(), row()]))
    again = own_set(write(tmp_path / "mine.jsonl", [row(other=1), row()]))
    changed = own_set(write(tmp_path / "mine.jsonl", [row(question="What?"), row()]))
    assert first.hash == again.hash != changed.hash


def test_training_questions_are_those_of_another_file(tmp_path: Path) -> None:
    found = own_set(write(tmp_path / "mine.jsonl", [row()]))
    with pytest.raises(LatentWireError, match=r"name a file of such with `training:` in mine.yaml"):
        load_training(found)
    write(tmp_path / "more.jsonl", [row(answer="B"), []])
    found = own_set(write(tmp_path / "mine.jsonl", [row()], "training: more.jsonl\n"))
    training = load_training(found)
    assert (training.name, keys(training)) == ("mine training", "B")
    assert len(training.left_out) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(["id", "question", "choices", "answer", "answers", "context", "A", "B"])


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.dictionaries(FIELDS, VALUES, max_size=5) | VALUES, max_size=3),
    kind=st.sampled_from(["", "kind: multiple_choice\n", "kind: extractive\n", "kind: number\n"]),
)
def test_whatever_rows_hold_there_are_questions_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    try:
        found = own_set(write(folder / "mine.jsonl", rows, kind))
    except LatentWireError as refused:
        assert str(refused) and "\n" not in str(refused)
    else:
        for example in found.examples:
            assert found.task.prompt_text(example) and found.task.target(example)
            assert found.task.score(example.answer, example.answer) == 1


def test_workers_get_what_was_read(tmp_path: Path) -> None:
    found = own_set(write(tmp_path / "mine.jsonl", HUB, "name: other\n"))
    again = pickle.loads(pickle.dumps(found))
    assert again == found and hash(again) == hash(found)  # what is asked of is a key in caches
