"""Each set's rows, in the hub's schema, become examples; and what outputs yield."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import loaded_pair, make_tokenizer

from latentwire.controls.registry import MATCHED
from latentwire.errors import LatentWireError
from latentwire.evaluation import engine
from latentwire.evaluation.record import make_record, read_records, record_lines
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks import registry, rows
from latentwire.tasks.dataset import build_dataset
from latentwire.tasks.passage import PassageExample
from latentwire.tasks.question import Question, tokenize
from latentwire.tasks.registry import TASKS, load_dataset
from latentwire.tasks.rows import HubConfigs, read_json_lines
from latentwire.tasks.task import Task

PASSAGE = "The Nile is a river. It is  6,650 km long."
SPAN = {"id": "q1", "context": PASSAGE, "question": "How long is it?"}
FACT = {"id": "7-1", "question_stem": "What is wet?", "answerKey": "B", "fact1": "rain is wet"}
FACT |= {"choices": {"text": ["sand", "rain", "dust"], "label": ["A", "B", "C"]}}
PARAGRAPHS = {"title": ["Nile", "Po"], "sentences": [["A river.", " Long."], ["A river too."]]}
NUMBERED = {"question": "1 + 1?", "subject": "arithmetic", "choices": ["1", "2", "3"], "answer": 1}
STATED = {"id": "s1", "question": "Q?", "answerKey": "A", "statement": "It is so."}
STATED |= {"choices": {"text": ["yes", "no"], "label": ["A", "B"]}}
ROWS: dict[str, tuple[dict[str, Any], str, str]] = {  # task -> row, key, evidence
    "xquad": (
        SPAN | {"answers": {"text": ["6,650 km"], "answer_start": [28]}},
        "6,650 km",
        PASSAGE,
    ),
    "squad": (
        SPAN | {"title": "Nile", "answers": {"text": ["6,650 km", "6,650", "6,650 km"]}},
        "6,650 km\n6,650",
        PASSAGE,
    ),
    "hotpotqa": (
        {"id": "h", "question": "Which?", "answer": "the Nile", "context": PARAGRAPHS},
        "the Nile",
        "Nile\nA river. Long.\n\nPo\nA river too.",
    ),
    "boolq": ({"question": "is it long", "answer": True, "passage": PASSAGE}, "yes", PASSAGE),
    "demo_private": (STATED, "A", "It is so."),
    "openbookqa_fact": (FACT, "B", "rain is wet"),
    "mmlu": (NUMBERED, "B", ""),
    "mmlu_redux": (NUMBERED | {"error_type": "ok", "source": None}, "B", ""),
    "piqa": ({"goal": "To dry.", "sol1": "Use rain.", "sol2": "Use sun.", "label": 1}, "B", ""),
    "gsm8k": ({"question": "2 of 1000?", "answer": "2 * 1000\n#### 2,000"}, "2000", ""),
}


def questions_of(task: Task, *some: dict[str, Any]) -> list[Question]:
    examples = build_dataset(task, [(f"row {n}", row) for n, row in enumerate(some)], "here")
    return tokenize(task, examples.examples, make_tokenizer())


@pytest.mark.parametrize("name", ROWS)
def test_a_row_from_a_file(tmp_path: Path, name: str) -> None:
    row, key, evidence = ROWS[name]
    task = TASKS[name]
    path = tmp_path / task.test.file  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    dataset = build_dataset(task, read_json_lines(path), str(path))
    (example,) = dataset.examples
    assert (example.answer, example.evidence) == (key, evidence)
    assert dataset.private == bool(evidence) == bool(example.cluster)
    assert evidence not in task.prompt_text(example) or not evidence
    assert example.question.rstrip("?") in task.prompt_text(example)
    assert task.score(key, task.extract(task.target(example))) == 1
    assert task.is_correct(key, task.extract(task.target(example)))
    (question,) = tokenize(task, dataset.examples, make_tokenizer())
    prompts = question.prompts
    assert prompts.private == bool(evidence)
    assert prompts.everything == (
        prompts.sharer_ids + prompts.receiver_ids if evidence else prompts.receiver_ids
    )
    if task.test.expected:
        with pytest.raises(LatentWireError, match=f"is not the {name} set: expected"):
            load_dataset(name, tmp_path)


def test_the_sharer_reads_the_evidence_and_the_receiver_the_question() -> None:
    (question,) = questions_of(TASKS["xquad"], ROWS["xquad"][0])
    tokenizer = make_tokenizer()
    sharer, receiver = (
        tokenizer.decode(ids)
        for ids in (question.prompts.sharer_ids, question.prompts.receiver_ids)
    )
    template = tokenizer.apply_chat_template
    turn = [{"role": "user", "content": PASSAGE}]
    assert sharer == template(turn, tokenize=False, enable_thinking=False)
    assert "Nile" not in receiver and "How long is it?" in receiver


def test_questions_on_one_passage_are_one_cluster_in_their_records(tmp_path: Path) -> None:
    rows = [ROWS["xquad"][0] | {"id": str(n), "context": f"{PASSAGE}{n // 2}"} for n in range(4)]
    asked = questions_of(TASKS["xquad"], *rows)
    condition = Condition("receiver")
    records = [
        make_record(condition, q, q, "6,650 miles", prompt_tokens=len(q.prompts.receiver_ids))
        for q in asked
    ]
    clusters = [record.cluster for record in records]
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3]
    assert [(r.correct, r.score) for r in records] == [(False, 0.5)] * 4
    (tmp_path / "records.jsonl").write_text(record_lines(records), encoding="utf-8")
    assert read_records(tmp_path / "records.jsonl") == records


def test_a_fuser_is_refused_where_the_sharer_alone_reads() -> None:
    asked = questions_of(TASKS["xquad"], *[ROWS["xquad"][0] | {"id": name} for name in "ab"])
    condition = Condition("c2c", Channel("int8"), MATCHED)
    with pytest.raises(LatentWireError, match="xquad: the sharer alone reads the evidence, so"):
        engine.evaluate(loaded_pair(), [condition], asked, asked)


def test_equal_prompts_are_never_refused() -> None:
    (question,) = questions_of(TASKS["mmlu"], ROWS["mmlu"][0])
    assert not question.prompts.private and question.token_ids == question.prompts.sharer_ids


@pytest.mark.parametrize(
    ("name", "output", "answer"),
    [
        ("xquad", "6,650 km", "6,650 km"),
        ("xquad", "\n Answer: the Nile \nIt is long.", "the Nile"),
        ("xquad", " \n", None),
        ("boolq", "Yes, it is.", "yes"),
        ("boolq", "It is not: No", "no"),
        ("boolq", "The answer is False.", "no"),
        ("boolq", "nothing known", None),
        ("gsm8k", "2 * 3 = 6. The answer is $1,234.50.", "1234.5"),
        ("gsm8k", "The answer is 5. No: the answer is 7 apples, not 8", "7"),
        ("gsm8k", "10 - 3 = 7", "7"),
        ("gsm8k", "5-3", "3"),
        ("gsm8k", "#### -3", "-3"),
        ("gsm8k", "1,2,3", "3"),
        ("gsm8k", "The answer is .50", "0.5"),
        ("gsm8k", "0.0", "0"),
        ("gsm8k", "1,000,000 or 1000000.00", "1000000"),
        ("gsm8k", "The answer is\n12", "12"),
        ("gsm8k", "none", None),
        ("piqa", "The correct answer is B", "B"),
        ("piqa", "The correct answer is C", None),
    ],
)
def test_outputs(name: str, output: str, answer: str | None) -> None:
    assert TASKS[name].extract(output) == answer


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("xquad", {"answers": ["x"]}, "field 'answers' must hold named fields, got list"),
        ("squad", {"answers": {"text": "x"}}, "field 'answers.text' must be a list"),
        ("hotpotqa", {"context": {"title": ["x"], "sentences": []}}, "there are 1 titles"),
        ("boolq", {"answer": "yes"}, "field 'answer' must be one of True, False, got 'yes'"),
        ("boolq", {"answer": 1}, "field 'answer' must be one of"),
        ("openbookqa_fact", {"fact1": ""}, "field 'fact1' is empty"),
        ("mmlu", {"answer": 3}, "choice 3 is the key, but there are 3, from 0 on"),
        ("mmlu", {"answer": True}, "field 'answer' must be a whole number, got bool"),
        ("piqa", {"label": -1}, "choice -1 is the key"),
        ("gsm8k", {"answer": "six"}, "must end with #### and a number"),
    ],
)
def test_malformed_rows_are_one_sentence(name: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(LatentWireError, match=words) as error:
        build_dataset(TASKS[name], [("set.jsonl, line 1", ROWS[name][0] | change)], "set.jsonl")
    assert str(error.value).startswith("set.jsonl, line 1: ") and "\n" not in str(error.value)


def test_what_people_found_fault_with_and_what_has_no_answer_is_not_scored() -> None:
    for name, change in (
        ("mmlu_redux", {"error_type": "wrong_groundtruth"}),
        ("squad", {"answers": {"text": [], "answer_start": []}}),
    ):
        assert TASKS[name].example(ROWS[name][0] | change, 0) is None


def test_subjects_are_read_one_behind_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(hub: rows.HubSplit, download: bool) -> list[rows.Row]:
        asked.append((hub.repo, hub.config, hub.split, download))
        return [(f"{hub.config}, row 0", ROWS["mmlu_redux"][0])]

    monkeypatch.setattr(rows, "read_hub_rows", read)
    source = TASKS["mmlu_redux"].test
    assert isinstance(source, HubConfigs) and len(source.configs) == 57
    found, place = source.read(None, False)
    assert [name for name, _ in found] == [f"{subject}, row 0" for subject in source.configs]
    assert {(repo, split, download) for repo, _, split, download in asked} == {
        ("edinburgh-dawg/mmlu-redux-2.0", "test", False)
    }
    assert "all subjects" in place
    assert registry.load_dataset("mmlu_redux", download=False).rows == 57


def test_xquad_is_calibrated_on_other_passages() -> None:
    row = ROWS["boolq"][0]
    example = TASKS["xquad"].example(row, 3)
    assert isinstance(example, PassageExample) and example.passage == PASSAGE
    assert TASKS["xquad"].row_id(row, 3) == example.id == "boolq:3"
    assert TASKS["xquad"].training.label == "training (BoolQ)"


@pytest.mark.parametrize(
    ("name", "questions", "clusters"),
    [
        ("xquad", 1190, 240),
        ("openbookqa_fact", 500, 417),
        ("boolq", 3270, 2938),
        ("piqa", 1838, 1),
        ("gsm8k", 1319, 1),
    ],
)
def test_published_sets(shared_dir: Path, name: str, questions: int, clusters: int) -> None:
    found = load_dataset(name, shared_dir / "data")
    assert len(found.examples) == questions
    assert len({example.cluster for example in found.examples}) == clusters
    task = found.task
    for example in found.examples[::50]:
        assert task.is_correct(example.answer, task.extract(task.target(example)))
