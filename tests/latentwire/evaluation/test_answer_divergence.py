"""What bits cost the answer: as real packets cost it, through interfaces of every kind."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from random_questions import SHORT, make_questions, private_questions, self_pair, stopping
from tiny import loaded_pair
from tiny import make_questions as worded
from torch import Tensor
from two_tokenizers import pair_of_two

from c2c import receiver
from latentwire.controls.registry import MATCHED
from latentwire.errors import LatentWireError
from latentwire.evaluation import answer_divergence
from latentwire.evaluation.answer_divergence import (
    answers_in_16_bits,
    divergences,
    sites_of,
)
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import prefill, send
from latentwire.evaluation.schedule_search import Bits, spelled
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question, tokenize
from latentwire.tasks.task import Prompts

Answered = list[tuple[Question, Sequence[int]]]
ANSWERS = [(7, 90, 11), (3,), (200, 5), (31, 8, 77, 4)]


def merged() -> tuple[LoadedPair, list[Question]]:
    return loaded_pair(torch.float64), make_questions([12, 30, 12, 5])


def inserted() -> tuple[LoadedPair, list[Question]]:
    return self_pair(dtype=torch.float64), private_questions([(9, 6), (14, 6), (4, 11), (9, 5)])


def aligned() -> tuple[LoadedPair, list[Question]]:
    pair = pair_of_two(torch.float64, True)
    examples = [question.example for question in worded(pair.tokenizer, [4, 9, 9, 2])]
    asked = tokenize(SHORT, examples, pair.tokenizer, pair.sharer_tokenizer)
    return pair, [question.under("first") for question in asked]


def by_packet(pair: LoadedPair, codec: str, question: Question, answer: Sequence[int]) -> Tensor:
    """Log-probabilities [tokens, vocabulary] behind a real packet, one token after the other."""
    packet = send(pair, Channel(codec), question, question, MATCHED)
    prefilled = prefill(pair, question, packet)
    lines, seen = [prefilled.logits[0]], prefilled.seen
    for token in answer[:-1]:
        step = torch.tensor([[token]])
        lines.append(
            receiver.extend(pair.receiver, prefilled.cache, step, prefilled.shift, seen)[0]
        )
    return torch.stack(lines).log_softmax(-1)


@pytest.mark.parametrize("make", [merged, inserted, aligned])
def test_a_cost_is_what_packets_give(make: Any) -> None:
    pair, asked = make()
    answered: Answered = list(zip(asked, ANSWERS, strict=True))
    sites = sites_of(pair)
    schedules: list[Bits] = [
        dict.fromkeys(sites, 3),
        {site: 2 if place % 3 else 8 for place, site in enumerate(sites)},
    ]
    found = divergences(pair, answered, schedules)
    for schedule, nats in zip(schedules, found, strict=True):
        wanted = []
        for question, answer in answered:
            whole, coarse = (
                by_packet(pair, name, question, answer) for name in ("bf16", spelled(schedule, 2))
            )
            wanted.append(float((whole.exp() * (whole - coarse)).sum()))
        assert nats == pytest.approx(sum(wanted) / len(wanted), rel=2e-3)
    assert found[0] > 1e-3


def test_all_in_16_bits_costs_nothing_and_rows_do_not_change_a_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair, asked = merged()
    answered: Answered = list(zip(asked, ANSWERS, strict=True))
    schedules: list[Bits] = [{}, *({site: 2} for site in sites_of(pair))]
    nothing, *each = divergences(pair, answered, schedules)
    assert abs(nothing) < 1e-9 and min(each) > 1e-6
    for name in ("ROWS_AT_ONCE", "MOST_ROWS", "MOST_LOGITS"):
        monkeypatch.setattr(answer_divergence, name, 1)  # and one schedule at once
        done: list[int] = []
        alone = divergences(pair, answered, schedules, done.append)
        assert alone[1:] == pytest.approx(each, rel=1e-5)
        assert sum(done) == len(answered)


def test_answers_are_the_receivers_and_two_are_needed() -> None:
    pair = stopping(loaded_pair())
    asked = worded(pair.tokenizer, [3, 5])
    found = answers_in_16_bits(pair, asked)
    assert [question for question, _ in found] == asked
    assert all(answer[-1] == pair.tokenizer.eos_token_id for _, answer in found)
    long = replace(asked[0], prompts=Prompts((5,) * 2000, (5,) * 2000))
    with pytest.raises(LatentWireError, match="two training questions at least, and 1 of 1 can"):
        answers_in_16_bits(pair, asked[:1])
    with pytest.raises(LatentWireError, match=r"1 of 2 can be answered: .* longer than"):
        answers_in_16_bits(pair, [asked[1], long])


def test_a_pair_that_sends_nothing_has_no_tensors() -> None:
    pair = loaded_pair()
    nothing = replace(pair, endpoint=replace(pair.endpoint, key_layers=(), value_layers=()))
    with pytest.raises(LatentWireError, match="reads no layer"):
        sites_of(nothing)
