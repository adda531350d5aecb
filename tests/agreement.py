"""The engine against the definition: `pipeline`, one example at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

import c2c.receiver
from c2c.cache import KVCache
from c2c.receiver import Prefilled
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.reading import Text
from latentwire.evaluation.record import Record
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question


def first_logits_of_pipeline(
    pair: LoadedPair, condition: Condition, question: Question, donor: Question
) -> tuple[Record, Tensor]:
    """The definition's record, and the logits [vocabulary] from which its answer starts."""
    seen: list[Tensor] = []
    greedy = c2c.receiver.greedy

    def listening(model: Any, prefilled: Prefilled, *options: Any) -> list[list[int]]:
        seen.append(prefilled.logits[0].clone())
        return greedy(model, prefilled, *options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c2c.receiver, "greedy", listening)
        record = pipeline.evaluate(pair, condition, question, donor)
    (logits,) = seen
    return record, logits


@contextmanager
def prompts_read_once() -> Iterator[None]:
    """What the definition's sharer reads is the same in every condition: within the block each
    prompt is read once. No model may change in it."""
    read = pipeline.read_as_sharer
    known: dict[Any, KVCache] = {}

    def once(pair: LoadedPair, text: Text, queries: bool = False) -> KVCache:
        key = pair.sharer, text, queries
        if key not in known:
            known[key] = read(pair, text, queries)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "read_as_sharer", once)
        yield


def same_logprobs(ours: dict[str, float] | None, theirs: dict[str, float] | None) -> None:
    """Of the same options, within what rounding to four decimals makes of 1e-4."""
    assert (ours is None) == (theirs is None)
    if ours and theirs:
        assert list(ours) == list(theirs)
        assert max(abs(ours[label] - theirs[label]) for label in ours) <= 2.01e-4


def agree(
    pair: LoadedPair,
    conditions: list[Condition],
    questions: list[Question],
    donors: list[Question] | dict[int, list[Question]],
    batch_size: int | None,
) -> dict[Condition, list[Record]]:
    """Both ways: equal records (bytes too), and logits within 1e-4."""
    told: list[int] = []
    lent = donors if isinstance(donors, dict) else {1: donors}
    ours: dict[tuple[Condition, int], Tensor] = {}

    def see(condition: Condition, row: int, logits: Tensor) -> None:
        assert (condition, row) not in ours
        ours[condition, row] = logits.clone()

    records = engine.evaluate(
        pair, conditions, questions, donors, batch_size, told.append, on_first_logits=see
    )
    assert sum(told) == len(conditions) * len(questions) == len(ours)
    assert list(records) == conditions
    with prompts_read_once():
        for condition in conditions:
            lenders = lent[condition.donor]
            for row, (question, donor) in enumerate(zip(questions, lenders, strict=True)):
                record, theirs = first_logits_of_pipeline(pair, condition, question, donor)
                assert records[condition][row] == record, condition.label
                same_logprobs(records[condition][row].option_logprobs, record.option_logprobs)
                difference = float((ours[condition, row] - theirs).abs().max())
                assert difference <= 1e-4, condition.label
    return records
