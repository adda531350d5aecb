"""Question sets by name: the published ones and the bundled ones."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import datasets
import pytest

from latentwire.errors import LatentWireError
from latentwire.tasks import arc_c, arc_e, bundled, commonsense_qa, openbookqa
from latentwire.tasks.registry import (
    TASKS,
    load_dataset,
    load_training,
    load_validation,
    task_names,
)

pytestmark = pytest.mark.usefixtures("hub_answers")

STUDIED = ("openbookqa", "arc_c")  # by the published study
PUBLISHED = {
    task.name: task.test.file
    for task in (openbookqa.TASK, arc_c.TASK, arc_e.TASK, commonsense_qa.TASK)
}
ON_THE_HUB = {
    "openbookqa": ("allenai/openbookqa", "main", "test"),
    "arc_c": ("allenai/ai2_arc", "ARC-Challenge", "test"),
    "arc_e": ("allenai/ai2_arc", "ARC-Easy", "test"),
    "commonsense_qa": ("tau/commonsense_qa", "default", "validation"),
}


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LatentWireError, match="'arc'; known: openbookqa, arc_c, arc_e, common"):
        load_dataset("arc")


@pytest.mark.parametrize(
    ("name", "rows", "keys"),
    [
        ("openbookqa", 500, {"A": 138, "B": 126, "C": 132, "D": 104}),
        ("arc_c", 1172, {"A": 263, "B": 301, "C": 303, "D": 283}),
        ("arc_e", 2376, {"A": 570, "B": 563, "C": 610, "D": 535}),
        ("commonsense_qa", 1221, {"A": 239, "B": 255, "C": 241, "D": 251, "E": 235}),
    ],
)
def test_published_set_from_a_folder(
    shared_dir: Path, name: str, rows: int, keys: dict[str, int]
) -> None:
    dataset = load_dataset(name, shared_dir / "data")
    assert (dataset.name, dataset.rows) == (name, rows)
    assert Counter(x.answer for x in dataset.examples) == keys


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_set_from_the_hub_is_the_same(
    shared_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = shared_dir / "data" / PUBLISHED[name]
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    asked = []

    def load(*args: str, **options: str) -> datasets.Dataset:
        asked.append((*args, options["split"]))
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    from_hub, from_folder = load_dataset(name), load_dataset(name, shared_dir / "data")
    assert (from_hub.examples, from_hub.hash) == (from_folder.examples, from_folder.hash)
    assert asked == [ON_THE_HUB[name]]


@pytest.mark.parametrize("name", STUDIED)
def test_published_questions_are_counted_as_in_the_study(shared_dir: Path, name: str) -> None:
    with (shared_dir / "reference" / "published_per_question.csv").open(encoding="utf-8") as file:
        studied = {
            (int(row["question_index"]), row["answer"])
            for row in csv.DictReader(file)
            if row["dataset"] == name
        }
    assert {
        (x.index, x.answer) for x in load_dataset(name, shared_dir / "data").examples
    } == studied


@pytest.mark.parametrize("name", PUBLISHED)
def test_altered_copy_is_refused(shared_dir: Path, tmp_path: Path, name: str) -> None:
    file = PUBLISHED[name]
    copy = tmp_path / file
    copy.parent.mkdir(parents=True)
    shutil.copy(shared_dir / "data" / file, copy)
    lines = copy.read_text(encoding="utf-8").split("\n")
    copy.write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(LatentWireError, match=f"is not the {name} set: expected .* rows with"):
        load_dataset(name, tmp_path)
    copy.write_text("\n".join([lines[1], lines[0], *lines[2:]]), encoding="utf-8")
    with pytest.raises(LatentWireError, match=r"expected content hash .*, found"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize("name", ["demo_facts", "demo_graded", "demo_private"])
def test_bundled_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(bundled, "BUNDLED_DIR", tmp_path)
    with pytest.raises(LatentWireError, match=f"the bundled set {name} is missing; make it with"):
        load_dataset(name)
    path = tmp_path / name / "test.jsonl"
    path.parent.mkdir()
    choices = {"text": ["red", "blue"], "label": ["A", "B"]}
    row = {"id": "f1", "question": "Q?", "choices": choices, "answerKey": "B", "statement": "S."}
    path.write_text(json.dumps(row) + "\n")
    dataset = load_dataset(name, tmp_path / "a folder that is not looked at")
    assert (dataset.name, dataset.rows, dataset.examples[0].answer) == (name, 1, "B")


def test_every_set_is_known() -> None:
    published = ("openbookqa", "arc_c", "arc_e", "commonsense_qa")
    assert task_names()[:7] == (*published, "demo_facts", "demo_graded", "demo_private")
    page = (Path(__file__).parents[3] / "docs" / "adding_a_task.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| `(\w+)` \|", page) == [*task_names()]
    assert {name: task.name for name, task in TASKS.items()} == {n: n for n in task_names()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_questions_are_the_published_ones_and_not_the_tests(
    shared_dir: Path, name: str
) -> None:
    training = load_training(name, shared_dir / "data")
    test = load_dataset(name, shared_dir / "data")
    assert training.name == f"{name} training"
    validation = load_validation(name, shared_dir / "data")
    sets = [s for s in (training, validation, test) if s]
    ids = [x.id for s in sets for x in s.examples]
    assert len(set(ids)) == len(ids)
    assert (validation is None) == (name == "commonsense_qa")
    assert validation is None or validation.name == f"{name} validation"


def test_the_fifth_letter_is_read_where_there_are_five_choices() -> None:
    five, four = commonsense_qa.TASK, arc_c.TASK
    assert (five.extract("The correct answer is E"), five.extract("e.")) == ("E", "E")
    assert four.extract("The correct answer is E") is None
    row = {"id": "1", "question": "Q?", "answerKey": "E"}
    row |= {"choices": {"text": list("vwxyz"), "label": list("ABCDE")}}
    example = five.example(row, 0)
    assert example is not None and five.target(example) == "The correct answer is E"
    assert four.example(row, 0) is None


@pytest.mark.parametrize("name", ["demo_facts", "demo_graded"])
def test_bundled_sets_are_calibrated_on_development_questions(name: str) -> None:
    training, test = load_training(name), load_dataset(name)
    assert training.name == f"{name} dev"
    assert {x.question for x in training.examples}.isdisjoint({x.question for x in test.examples})
