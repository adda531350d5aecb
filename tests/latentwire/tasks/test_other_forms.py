"""A task that asks for no letter goes through everything that letters go through."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import loaded_pair, make_tokenizer

from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.letter_distribution import in_format_share, spread
from latentwire.analysis.report.page_data import page_data
from latentwire.errors import Unanswerable
from latentwire.evaluation import baselines, engine, pipeline
from latentwire.evaluation.message import stem_and_options
from latentwire.evaluation.record import Record, read_records, record_lines
from latentwire.spec.condition import Condition, Message
from latentwire.spec.setting import Setting
from latentwire.tasks import registry
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.question import tokenize
from latentwire.tasks.rows import HubSplit, RowFields
from latentwire.tasks.task import Example, Options, Task

KEYS = (True, False, True)
ANSWERS = {"matched": ("yes", "perhaps", None), "deranged": ("no", "no", "no")}


@dataclass(frozen=True)
class YesNo(Task):
    """Rows without ids, no choices; a hedge is half right."""

    def row_id(self, row: dict[str, Any], index: int) -> str:
        return f"{self.name}:{index}"

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        fields = RowFields(row)
        key = "yes" if fields.value("answer") else "no"
        return Example(self.row_id(row, index), index, fields.text("question"), (), key)

    def prompt_text(self, example: Example) -> str:
        return f"{example.question}\nAnswer yes or no."

    def options(self, example: Example) -> Options:
        return Options("It is", ("yes", "no"), "answer yes or no")

    def extract(self, output: str) -> str | None:
        return output.strip() or None

    def score(self, key: str, answer: str | None) -> float:
        return 0.5 if answer == "perhaps" else super().score(key, answer)


TASK = YesNo(
    "yesno",
    HubSplit("some/set", "main", "validation", "yesno/test.jsonl"),
    HubSplit("some/set", "main", "train", "yesno/train.jsonl"),
    max_new_tokens=3,
)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setitem(registry.TASKS, TASK.name, TASK)
    path = tmp_path / "yesno" / "test.jsonl"
    path.parent.mkdir()
    rows = [{"question": f"Is {n}{'!' * n} red?", "answer": key} for n, key in enumerate(KEYS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return registry.load_dataset("yesno", tmp_path)


def answered(dataset: Dataset, control: str) -> list[Record]:
    questions = tokenize(dataset.task, dataset.examples, make_tokenizer())
    fields = {"prompt_tokens": 5, "generated_tokens": 2, "wire_bytes": 7}
    return [
        Record(q.example.id, n, q.example.answer, output=str(answer), **q.graded(answer), **fields)
        for n, (q, answer) in enumerate(zip(questions, ANSWERS[control], strict=True))
    ]


def test_rows_without_ids_and_choices_are_read(dataset: Dataset) -> None:
    assert dataset.name == "yesno"  # whatever the hub calls the split that is scored
    assert [(e.id, e.answer) for e in dataset.examples] == [
        ("yesno:0", "yes"), ("yesno:1", "no"), ("yesno:2", "yes")
    ]  # fmt: skip


def test_only_a_whole_score_is_correct_and_parts_are_kept(dataset: Dataset, tmp_path: Path) -> None:
    records = answered(dataset, "matched")
    assert [(r.correct, r.score) for r in records] == [(True, None), (False, 0.5), (False, None)]
    (tmp_path / "records.jsonl").write_text(record_lines(records), encoding="utf-8")
    assert read_records(tmp_path / "records.jsonl") == records
    written = (tmp_path / "records.jsonl").read_text().splitlines()
    assert ["score" in line for line in written] == [False, True, False]
    metrics = chunk_metrics(records, TASK)
    assert (metrics["accuracy"], metrics["score_mean"]) == (pytest.approx(1 / 3), 0.5)
    assert "score_mean" not in chunk_metrics(answered(dataset, "deranged"), TASK)


def test_the_curve_and_the_page_take_answers_that_are_words(dataset: Dataset) -> None:
    results = [
        ConditionResult(
            pair="tiny",
            dataset="yesno",
            source="local",
            system="c2c",
            codec="int8",
            kv_bits=8,
            keep_ratio=1.0,
            order="front",
            control=control,
            examples_total=3,
            records=tuple(replace(r, donor_answer="no") for r in answered(dataset, control)),
            seconds=1.0,
        )
        for control in ANSWERS
    ]
    frame = build_curve(results)
    (row,) = frame.to_dict(orient="records")
    assert (row["correct"], row["share_other"], row["top_letter"]) == (1, 2 / 3, "perhaps")
    assert row["follows_donor_share"] == 1  # all that the control answers is the donor's key
    made = page_data(frame, results, {"yesno": dataset}, [], [], [], "sqlite:///x", "today")
    assert [a["letters"] for a in made["answers"]] == [["yes", "perhaps", "-"], ["no"] * 3]
    assert [a["right"] for a in made["answers"]] == ["100", "010"]
    (table,) = made["questions"]
    assert table["keys"] == ["yes", "no", "yes"] and table["prompts"] is not None
    records = answered(dataset, "matched")
    assert spread(records).shares == dict.fromkeys("ABCD", 0)
    assert in_format_share(records, TASK) == 1


def test_every_baseline_asks_it_and_batches_agree(dataset: Dataset) -> None:
    pair = loaded_pair()
    questions = tokenize(dataset.task, dataset.examples, pair.tokenizer)
    donors = [*questions[1:], questions[0]]
    alone = [Condition("receiver"), Condition("sharer")]
    message = Message("utf8", 2)
    competing = [Condition("text", control="matched", message=message), Condition("calibrated")]
    competing += [Condition(system, control="matched") for system in ("letter", "logits")]
    found = engine.evaluate(pair, alone + competing, questions, donors)
    models = baselines.ReferenceModels(pair)
    for condition, records in found.items():
        expected = [
            baselines.evaluate(models, condition, q, d)
            if condition in competing
            else pipeline.evaluate(pair, condition, q, d)
            for q, d in zip(questions, donors, strict=True)
        ]
        assert records == expected, condition.label
        assert all(record.generated_tokens <= TASK.max_new_tokens for record in records)
    assert all("each answer yes or no" in str(r.unanswered) for r in found[competing[1]])
    bare = replace(questions[0], task=Bare(TASK.name, TASK.test, TASK.training))
    with pytest.raises(Unanswerable, match="no options"):
        stem_and_options(pair.tokenizer, bare.options)


class Bare(YesNo):
    """Free text: nothing to choose from."""

    def options(self, example: Example) -> Options:
        return Task.options(self, example)


def test_a_limit_and_a_version_of_its_own_are_in_fingerprints_and_not_in_the_curves() -> None:
    usual = Setting("tiny", "ab", "yesno", "cd", 1, "float32", 42)
    for other in (replace(usual, max_new_tokens=3), replace(usual, prompt_version=2)):
        of_both = [s.condition_fingerprint(Condition("receiver")) for s in (usual, other)]
        assert of_both[0] != of_both[1]
        assert usual.identity() == other.identity()  # curves of one pair stay together


def test_any_number_of_options_is_sent() -> None:
    logprobs = -np.arange(40.0)
    packet = baselines.encode_logprobs(logprobs)
    assert len(packet) == 80 and (baselines.decode_logprobs(packet) == logprobs).all()
