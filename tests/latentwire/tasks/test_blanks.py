"""Questions made of passages: what is left out stands in the passage, once in its sentence."""

import json
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.tasks.blanks import BLANK, BlanksOf, blank_in
from latentwire.tasks.dataset import build_dataset
from latentwire.tasks.registry import TASKS, load_dataset, load_development, load_training

ASKED = f"Which words of the text are left out here ({BLANK})? "
SOURCE = BlanksOf("google/boolq", "default", "validation", "boolq/validation.jsonl")


def test_a_name_or_a_number_within_a_sentence_is_left_out() -> None:
    told = "Rivers are long. The river Nile is 6,650 km long."
    asked = {f"{ASKED}The river {BLANK} is 6,650 km long.": "Nile"}
    asked |= {f"{ASKED}The river Nile is {BLANK} km long.": "6,650"}
    found = [blank_in(f"{told}{' ' * n}") for n in range(40)]  # other passages, other choices
    assert {pair[0].rstrip(): pair[1] for pair in found if pair} == asked
    assert blank_in("Rivers are long. Nothing is asked of that.") is None
    assert blank_in("We saw Rome and left Rome.") is None  # which of the two?
    quoted = blank_in("He says ``God Save the Queen'' often.")
    assert quoted is None or not quoted[1].endswith("'")


def rows_of(folder: Path, *rows: object) -> Path:
    path = folder / SOURCE.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_each_passage_is_asked_about_once_and_the_last_first(tmp_path: Path) -> None:
    passages = ["It is in Rome.", "It has 3 legs.", "no name here", "It is in Rome."]
    rows = [{"question": "is it", "answer": True, "passage": each} for each in passages]
    found, place = SOURCE.read(rows_of(tmp_path, *rows))
    told = build_dataset(TASKS["xquad"], found, place, SOURCE.label)
    assert [(e.evidence, e.answer) for e in told.examples] == [
        ("It is in Rome.", "Rome"),
        ("It has 3 legs.", "3"),
    ]
    assert told.name == "xquad development (blanks in the passages of boolq)" and told.private
    with pytest.raises(LatentWireError, match="line 1: field 'passage' is missing"):
        SOURCE.read(rows_of(tmp_path, {"question": "is it", "answer": True}))


def test_xquad_is_chosen_by_words_of_passages_that_are_not_scored(shared_dir: Path) -> None:
    data = shared_dir / "data"
    found, scored = load_development("xquad", data), load_dataset("xquad", data)
    assert found is not None
    texts = {e.evidence for e in found.examples}
    assert len(texts) == len(found.examples) and not texts & {e.evidence for e in scored.examples}
    for example in found.examples:
        before, _, behind = example.question.removeprefix(ASKED).partition(BLANK)
        assert before + example.answer + behind in example.evidence
    fitted = {e.evidence for e in load_training("xquad", data).examples[:128]}
    assert sum(e.evidence in fitted for e in found.examples[:128]) <= 2  # asked about twice
    none, own = load_development("commonsense_qa", data), load_development("openbookqa", data)
    assert none is None and own is not None and own.name == "openbookqa validation"
