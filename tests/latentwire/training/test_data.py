"""What is trained on: never what is scored."""

import json
from pathlib import Path

import pytest
from tiny import STOP_ID, make_tokenizer

from latentwire.errors import LatentWireError
from latentwire.parameters import TRAINING_DATA
from latentwire.tasks.registry import load_dataset, load_training
from latentwire.training.data import Reader, ScoredQuestions, load_training_data


def write_chats(path: Path, *questions: str) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "The B"}]}
        for q in questions
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_question_is_found_whatever_its_case_and_punctuation() -> None:
    scored = ScoredQuestions(["What do plants need?", "Photosynthesis makes"])
    assert scored.holds("what do  PLANTS need")
    assert scored.holds("Accurately answer: What do plants need? Choices: A. sun")
    assert not scored.holds("What do plants eat?")
    # A scored text of fewer than four words stands in too much by chance: it counts alone only.
    assert scored.holds("photosynthesis makes...") and not scored.holds("photosynthesis makes it")


def test_chats_that_hold_a_scored_question_are_left_out_and_counted(tmp_path: Path) -> None:
    asked = load_dataset("demo_facts").examples[3].question
    path = write_chats(tmp_path / "chats.jsonl", "Is it red or blue?", f"Say: {asked.upper()}")
    scored = ScoredQuestions([asked])
    data = load_training_data(path, ["demo_facts"], scored, Reader(make_tokenizer()), None, 2)
    (part,) = data.parts
    assert (part.used, part.scored, len(data.pairs)) == (1, 1, 1)
    assert part.told() == "chats.jsonl 1, 1 left out that stand in a scored set"
    assert data.pairs[0][1][-1] == STOP_ID
    assert len(data.judged_by) == 2


def test_long_chats_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_chats(tmp_path / "chats.jsonl", "a", "a" * 200)
    monkeypatch.setattr("latentwire.training.data.MOST_TOKENS", 60)
    data = load_training_data(path, [], ScoredQuestions([]), Reader(make_tokenizer()), None, 2)
    assert data.parts[0].told() == "chats.jsonl 1, 1 left out that are too long"
    assert data.names == (f"{path}, line 1",)
    monkeypatch.setattr("latentwire.training.data.MOST_TOKENS", 3)
    with pytest.raises(LatentWireError, match="nothing is left to train on"):
        load_training_data(path, [], ScoredQuestions([]), Reader(make_tokenizer()), None, 2)


def test_a_task_without_validation_questions_keeps_some_back() -> None:
    training = load_training("demo_facts")
    asked = training.examples[0].question
    scored = ScoredQuestions([asked])
    tokenizer = make_tokenizer()
    data = load_training_data(["demo_facts"], [], scored, Reader(tokenizer), None, 10)
    same = sum(example.question == asked for example in training.examples)
    assert data.parts[0].scored == same
    assert len(data.pairs) == len(training.examples) - same - 10
    judged = {question.token_ids for question in data.judged_by}
    assert judged.isdisjoint({tuple(prompt) for prompt, _ in data.pairs})
    answer = tokenizer.decode(data.pairs[0][1])
    assert answer.startswith("The correct answer is ")


def test_a_scored_set_is_refused_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "openbookqa" / "test.jsonl"
    path.parent.mkdir()
    path.write_text("{}\n")
    with pytest.raises(LatentWireError, match="never trained on; data=openbookqa takes its"):
        load_training_data(path, [], ScoredQuestions([]), Reader(make_tokenizer()), None, 2)


def test_questions_of_the_users_own_are_trained_on_but_those_that_are_scored(
    tmp_path: Path,
) -> None:
    scored = load_dataset("demo_facts").examples[3].question
    rows = [
        {"question": question, "choices": ["x", "y"], "answer": "B"}
        for question in ("What is it?", f"Say: {scored.upper()}")
    ]
    path = tmp_path / "lessons.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (lessons,) = TRAINING_DATA.parse(str(path))
    reader = Reader(make_tokenizer())
    data = load_training_data([lessons], [], ScoredQuestions([scored]), reader, None, 2)
    assert data.parts[0].told() == "lessons 1, 1 left out that stand in a scored set"
    assert data.names == ("lessons, 1",)

    with pytest.raises(LatentWireError, match=r"^data=lessons: nothing is left to train on"):
        asked = ScoredQuestions([row["question"] for row in rows])  # type: ignore[misc]
        load_training_data([lessons], [], asked, reader, None, 2)


def test_the_file_of_a_test_split_is_never_trained_on_as_questions(tmp_path: Path) -> None:
    path = tmp_path / "openbookqa" / "test.jsonl"
    path.parent.mkdir()
    row = {"question_stem": "Which?", "choices": ["x", "y"], "answerKey": "A"}
    path.write_text(json.dumps(row) + "\n")
    (found,) = TRAINING_DATA.parse(str(path))
    with pytest.raises(
        LatentWireError, match="the set by which openbookqa is scored, and is never"
    ):
        load_training_data([found], [], ScoredQuestions([]), Reader(make_tokenizer()), None, 2)


def test_a_file_of_chats_stays_one(tmp_path: Path) -> None:
    path = write_chats(tmp_path / "chats.jsonl", "a")
    assert TRAINING_DATA.parse(str(path)) == path
    path.write_text("not json")
    assert TRAINING_DATA.parse(str(path)) == path  # whose reader names the line
