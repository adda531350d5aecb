"""What options got at the answer's first place, by definition and in batches."""

import math
from dataclasses import replace

import pytest
import torch
from agreement import first_logits_of_pipeline
from random_questions import SHORT, make_questions, stopping
from tiny import VOCABULARY, loaded_pair, make_tokenizer

from latentwire.evaluation import engine
from latentwire.evaluation.option_logprobs import ROWS_AT_ONCE, option_logprobs, option_tokens
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import derange
from latentwire.tasks.task import Options


def test_records_hold_what_the_first_logits_say() -> None:
    pair = stopping(loaded_pair())
    asked = [replace(q, task=SHORT) for q in make_questions([9, 9, 6])]
    few = replace(asked[0].example, choices=("a", "b"))  # options differ in number
    asked[0] = replace(asked[0], example=few)
    donors = derange(asked, 42)
    sent = [Condition("c2c", Channel("bf16"), control) for control in ("matched", "deranged")]
    conditions = [Condition("receiver"), Condition("sharer"), *sent]
    records = engine.evaluate(pair, conditions, asked, donors, 2)
    for condition in conditions:
        for row, (question, donor) in enumerate(zip(asked, donors, strict=True)):
            record, logits = first_logits_of_pipeline(pair, condition, question, donor)
            every = math.log(sum(math.exp(x) for x in logits.tolist()))
            ids = {label: pair.tokenizer.encode(label)[0] for label in question.options.labels}
            by_hand = {label: float(logits[token]) - every for label, token in ids.items()}
            assert len(by_hand) == (4 if row else 2)
            for found in (record.option_logprobs, records[condition][row].option_logprobs):
                assert found is not None
                assert found == pytest.approx(by_hand, abs=1.51e-4)
                assert all(value == round(value, 4) for value in found.values())


def test_many_rows_and_rows_without_options() -> None:
    logits = torch.randn(2 * ROWS_AT_ONCE + 3, VOCABULARY, generator=torch.Generator())
    tokens = [{"A": row % 7, "B": 8 + row} if row % 3 else {} for row in range(len(logits))]
    found = option_logprobs(logits, tokens)
    assert found == [option_logprobs(logits[r : r + 1], [t])[0] for r, t in enumerate(tokens)]
    assert [each is None for each in found] == [not each for each in tokens]
    assert option_logprobs(logits[:2], [{}, {}]) == [None, None]


def test_labels_of_several_tokens_and_no_options_have_none() -> None:
    tokenizer = make_tokenizer()
    assert list(option_tokens(tokenizer, Options("", ("A", "B")))) == ["A", "B"]
    assert option_tokens(tokenizer, Options("", ("A", "Zq9"))) == {}
    assert option_tokens(tokenizer, Options("")) == {}
