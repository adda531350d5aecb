"""Budgets in bytes: no packet is longer, and the engine sends what the definition sends."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle

import pytest
import torch
from agreement import agree
from calibrations import make_calibration
from chosen import PLAIN_CONTROLS
from random_questions import SHORT, private_questions, self_pair, stopping
from throw_away_selectors import registered
from tiny import make_questions
from two_tokenizers import pair_of_two

from c2c.paired_prompts import OFFSETS
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange, tokenize

MakeQuestions = Callable[..., list[Question]]
LENGTHS = [12, 2, 12, 23, 3]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.mark.slow
def test_engine_and_definition_agree(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    pair, calibration = calibrated(precise_pair)
    asked = questions(LENGTHS)
    within = [
        Channel("int8", 1, "back", budget_bytes=700),
        Channel("int8", 0.5, "front", budget_bytes=700),
        Channel("bf16", 1, "scattered", budget_ratio=0.25),
        Channel("kivi4+zstd", 1, "ragged", budget_bytes=400),
        Channel("kvtc1", 1, "back", calibration, budget_bytes=100),
        Channel("kvtc1", 1, "back", calibration, budget_bytes=180),
        Channel("klt2", 1, "front", calibration, budget_ratio=1 / 8),
        Channel("klt2", 1, "kvcomm", calibration, budget_ratio=1 / 8),
        Channel("int8", 1, "snapkv_by_layer", budget_ratio=0.1),
        Channel("int4", 1, "back@2", budget_bytes=200),
        Channel("kivi2", 0.5, "sinks_recent@0+2", budget_ratio=0.2),
        Channel("int4", 0.75, "oracle_delta", budget_bytes=500),
        Channel("tokens:int8:int4:int3:int2", 1, "back", budget_bytes=600),
        Channel("tokens:int8:int4:int2", 0.8, "snapkv", budget_ratio=0.1),
        Channel("planes8", 1, "front", budget_ratio=0.3),
        Channel("planes2", 0.5, "back", budget_bytes=900),
        Channel("planes4", 0.6, "vnorm_by_layer", budget_ratio=0.25),
        Channel("int4/last1:bf16", 1, "back", budget_bytes=1),
    ]
    conditions = [Condition("receiver"), Condition("c2c", Channel("int8"), "matched")]
    others = cycle(control for control in PLAIN_CONTROLS if control != "matched")
    conditions += [
        Condition("c2c", channel, control)
        for channel in within
        for control in ("matched", next(others))
    ]
    records = agree(pair, conditions, asked, derange(asked, 42), 4)
    for condition in conditions[2:]:
        assert condition.channel is not None
        for record in records[condition]:
            assert record.unanswered is None and record.budget_bytes is not None
            assert record.wire_bytes <= record.budget_bytes
            assert record.unused_bytes == record.budget_bytes - record.wire_bytes
        sent = [record.wire_bytes for record in records[condition]]
        assert any(sent) != (condition.channel.budget_bytes == 1)  # where nothing fits, none goes
    half, whole = (records[conditions[n]] for n in (4, 2))
    assert any(a.elements < b.elements for a, b in zip(half, whole, strict=True))
    assert all(a.elements <= b.elements for a, b in zip(half, whole, strict=True))


def test_a_share_is_of_the_own_cache_in_16_bits(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    asked = questions(LENGTHS)
    whole = Condition("c2c", Channel("bf16"), "matched")
    shares = [
        Condition("c2c", Channel("bf16", 1, "back", budget_ratio=share), control)
        for share in (1, 0.5)
        for control in ("matched", "deranged")
    ]
    records = agree(precise_pair, [whole, *shares], asked, derange(asked, 1), 8)
    full = [record.wire_bytes for record in records[whole]]
    for condition in shares:
        assert condition.channel is not None
        share = condition.channel.budget_ratio
        assert [r.budget_bytes for r in records[condition]] == [int(share * n) for n in full]
    assert [record.wire_bytes for record in records[shares[0]]] == full
    assert all(r.wire_bytes <= n / 2 for r, n in zip(records[shares[2]], full, strict=True))


def calibrated(pair: LoadedPair) -> tuple[LoadedPair, str]:
    endpoint = pair.endpoint
    found = make_calibration(endpoint.geometry, endpoint.key_layers, endpoint.value_layers)
    return replace(pair, endpoint=replace(endpoint, calibration=found)), found.hash


@pytest.mark.parametrize("alignment", ["first", OFFSETS])
def test_of_two_tokenizers_what_can_be_sent_is_fitted(alignment: str) -> None:
    pair = stopping(pair_of_two(torch.float64, True))
    examples = [question.example for question in make_questions(pair.tokenizer, [1, 5, 3])]
    asked = tokenize(SHORT, examples, pair.tokenizer, pair.sharer_tokenizer)
    channels = [
        Channel("int4", 1, order, alignment=alignment, budget_ratio=0.1)
        for order in ("back", "scattered", "ragged")
    ]
    channels.append(replace(channels[0], codec="tokens:int8:int4"))
    conditions = [Condition("c2c", channel, "deranged") for channel in channels]
    records = agree(pair, conditions, asked, derange(asked, 42), 3)
    for record in (record for kept in records.values() for record in kept):
        assert record.budget_bytes is not None
        assert 0 < record.wire_bytes <= record.budget_bytes


def test_a_message_in_front_of_the_prompt_is_fitted_once(short_answers: int) -> None:
    """Questions on one evidence get the same bytes, within a share of that evidence's own."""
    pair = self_pair(dtype=torch.float64)
    asked = private_questions([(30, 5), (0, 9), (17, 12), (19, 1), (44, 6)])
    conditions = [
        Condition("c2c", Channel(codec, 1, order, budget_ratio=0.2), control)
        for codec, order in (("int8", "back"), ("int8", "scattered"), ("tokens:int8:int2", "front"))
        for control in ("matched", "deranged")
    ]
    records = agree(pair, conditions, asked, derange(asked, 42), 4)
    for condition in conditions:
        for record in records[condition]:
            assert record.budget_bytes is not None
            assert 0 < record.wire_bytes <= record.budget_bytes


def test_a_codec_of_whole_tokens_loses_only_the_questions_it_cannot_send(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    """A short message goes as a whole within the budget; of a longer one layers would differ."""
    pair, calibration = calibrated(precise_pair)
    asked = questions([2, 23, 3, 23])
    channels = [
        Channel("kvtc1", 1, "vnorm_by_layer", calibration, budget_bytes=110),
        Channel("int8+zstd", 1, "vnorm_by_layer", budget_bytes=700),
    ]
    conditions = [Condition("c2c", channel, "matched") for channel in channels]
    donors = derange(asked, 42)
    records = engine.evaluate(pair, conditions, asked, donors, 4)
    for condition, refused in zip(conditions, (True, False), strict=True):
        lost = [record.unanswered is not None for record in records[condition]]
        assert lost == [False, refused, False, refused]
        for own, *told in zip(records[condition], asked, donors, strict=True):
            assert own == pipeline.evaluate(pair, condition, *told)


def test_into_a_prompt_of_one_token_nothing_goes(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    (asked,) = questions([1])
    channels = [
        Channel("tokens:int8:int4", 1, "vnorm", budget_ratio=0.5),
        Channel("int8", 1, "oracle_delta", budget_bytes=500),
        Channel("planes8", 0.5, "oracle_delta"),
        Channel("planes8", 1, "snapkv", budget_bytes=500),
    ]
    conditions = [Condition("c2c", channel, "deranged") for channel in channels]
    records = agree(precise_pair, conditions, [asked], questions([9]), 2)
    assert not any(record.wire_bytes for kept in records.values() for record in kept)
