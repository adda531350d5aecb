"""Two tokenizers: what the two models read, what is sent, and the engine beside the definition."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from agreement import agree
from random_questions import SHORT, stopping
from throw_away_selectors import registered
from tiny import loaded_pair, make_fuser, make_model, make_questions
from torch import Tensor
from two_tokenizers import first_tokenizer, pair_of_two, second_tokenizer

from c2c.cache import KVCache
from c2c.paired_prompts import ALIGNMENTS, OFFSETS, PairedPrompts
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.channel.selectors.selector import Selector
from latentwire.errors import LatentWireError
from latentwire.evaluation import engine, pipeline, tensor_distortion
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import packet_of, read_as_sharer
from latentwire.evaluation.reading import Text, sharers_text
from latentwire.evaluation.tensor_distortion import distortions
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange, tokenize

ALONE = [Condition("receiver"), Condition("sharer")]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module", params=[True, False], ids=["first <- second", "second <- first"])
def two(request: pytest.FixtureRequest) -> LoadedPair:
    """In float64: see `precise_pair`."""
    return stopping(pair_of_two(torch.float64, request.param))


def asked_of(pair: LoadedPair, lengths: list[int]) -> list[Question]:
    examples = [question.example for question in make_questions(pair.tokenizer, lengths)]
    return tokenize(SHORT, examples, pair.tokenizer, pair.sharer_tokenizer)


def aligned(question: Question, alignment: str) -> PairedPrompts:
    found = question.under(alignment).prompts.alignment
    assert found is not None
    return found


def c2c(codec: str, alignment: str, ratio: float = 1.0, order: str = "front") -> list[Condition]:
    channel = Channel(codec, ratio, order, alignment=alignment)
    return [Condition("c2c", channel, control) for control in ("matched", "deranged", "zero")]


def test_engine_and_definition_agree(two: LoadedPair) -> None:
    asked = asked_of(two, [1, 5, 3])
    conditions = [*ALONE, *c2c("bf16", "longest")[:1], *c2c("bf16", OFFSETS)]
    for alignment in ("first", OFFSETS):
        conditions += c2c("int8", alignment, 0.5, "back")[1:2]
        conditions += c2c("int8", alignment, 0.03, "ragged")[:1]
    conditions += c2c("bf16", "first")[:2] + c2c("int4", "first", 0.0)[:1]
    conditions += c2c("int4", OFFSETS, 0.03, "scattered")[1:2]
    conditions += c2c("int8", OFFSETS, 0.1, "snapkv_by_layer")[:2]
    conditions += c2c("int4", "first", 0.1, "expected_attention")[1:2]
    records = agree(two, conditions, asked, derange(asked, 42), 3)
    outputs = {tuple(record.output for record in records[c]) for c in conditions}
    assert len(outputs) > len(conditions) / 2
    for condition in conditions:
        assert all(record.unanswered is None for record in records[condition])
    sharer = [record.prompt_tokens for record in records[ALONE[1]]]
    assert sharer == [len(q.prompts.sharer_ids) for q in asked]  # by its own tokenizer


def test_an_oracle_is_refused_where_models_read_different_tokens(two: LoadedPair) -> None:
    asked = asked_of(two, [3])
    condition = c2c("int8", "first", 0.5, "oracle_delta")[0]
    with pytest.raises(LatentWireError, match="so both models must read the same ids"):
        engine.evaluate(two, [condition], asked, asked)
    with pytest.raises(LatentWireError, match="so both models must read the same ids"):
        pipeline.evaluate(two, condition, asked[0], asked[0])


def test_a_sliding_window_counts_padding() -> None:
    """As a mask over the whole prompt has it: one end slides, and so does the other."""
    models = [make_model("gemma3", seed).double() for seed in (1, 2)]
    fuser = make_fuser(models[1], models[0], seed=3).double()
    endpoint = Endpoint.of(fuser, b"12345678")
    both = second_tokenizer(), first_tokenizer()
    pair = stopping(LoadedPair(*models, fuser, both[0], endpoint, both[1]))
    asked = asked_of(pair, [1, 4])
    agree(pair, [*c2c("bf16", "first")[:1], *c2c("bf16", OFFSETS)[1:2]], asked, asked[::-1], 2)


def test_padding_is_seen_by_neither_model(two: LoadedPair) -> None:
    """Whatever stands there but at the prompt's end, from which the answer starts."""
    question = asked_of(two, [4])[0].under("first")
    found = question.prompts.alignment
    assert found is not None and found.sharer_pads + found.receiver_pads
    ends_on_padding = two.tokenizer is second_tokenizer()
    assert (len(found.receiver_ids) - 1 in found.receiver_pads) == ends_on_padding

    def other(ids: tuple[int, ...], pads: tuple[int, ...]) -> tuple[int, ...]:
        last = len(ids) - 1
        return tuple(7 if n in pads and n != last else token for n, token in enumerate(ids))

    changed = replace(
        found,
        sharer_ids=other(found.sharer_ids, found.sharer_pads),
        receiver_ids=other(found.receiver_ids, found.receiver_pads),
    )
    assert changed != found
    asked = [
        replace(question, prompts=replace(question.prompts, alignment=each))
        for each in (found, changed)
    ]
    channel = Channel("fp32")
    first, second = (pipeline.send(two, channel, each, each, "matched") for each in asked)
    assert first == second
    logits = [pipeline.prefill(two, each, first).logits for each in asked]
    assert torch.equal(*logits)
    seen_too = replace(found, sharer_pads=(), receiver_pads=())
    (plain,) = [replace(question, prompts=replace(question.prompts, alignment=seen_too))]
    other_packet = pipeline.send(two, channel, plain, plain, "matched")
    assert not torch.equal(pipeline.prefill(two, plain, other_packet).logits, logits[0])


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_tokens_of_messages_alone_are_sent(alignment: str, two: LoadedPair) -> None:
    (question,) = asked_of(two, [8])
    found, under = aligned(question, alignment), question.under(alignment)
    for ratio in (1.0, 0.5):
        packet = pipeline.send(two, Channel("int8", ratio), under, under, "matched")
        tokens = len(found.sharer_ids)
        layout, _ = two.endpoint.receive(packet, tokens, two.dtype, torch.device("cpu"))
        sent = layout.kept.tokens(0)
        assert tuple(sent) == found.sendable[: int(len(found.sendable) * ratio)]
    own = question.prompts.receiver_ids
    text = two.tokenizer.decode([own[n] for n in range(len(own)) if n > 0])
    assert question.task.prompt_text(question.example) in text


def test_a_packet_has_each_token_of_the_sharers_once(two: LoadedPair) -> None:
    (question,) = asked_of(two, [8])
    found = aligned(question, OFFSETS)
    taken = [source for source in found.sources if source is not None]
    assert len(set(taken)) == len(found.sendable)
    assert found.sharer_ids == question.prompts.sharer_ids
    assert found.receiver_ids == question.prompts.receiver_ids
    if len(taken) > len(set(taken)):  # the receiver has more tokens than the sharer
        kept = Positions.of(found.sendable)
        own, places = pipeline.own_positions(found, kept)
        assert own.count == len(taken) > kept.count and len(places(0)) == own.count


class OfTheMessage(Selector):
    """Tokens between first and stop: what an alignment sends of one tokenizer's prompts."""

    help = "of the message"

    def __init__(self, found: PairedPrompts) -> None:
        self.tokens = found.sendable

    def select(self, *_: object) -> Positions:
        return Positions.of(self.tokens)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_with_one_tokenizer_all_is_as_without_alignment(
    alignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte and to the bit, where the same tokens are sent."""
    pair = stopping(loaded_pair(torch.float64))
    examples = [question.example for question in make_questions(pair.tokenizer, [5])]
    (question,) = tokenize(SHORT, examples, pair.tokenizer)
    found, under = aligned(question, alignment), question.under(alignment)
    assert found.keeps_places and found.sharer_ids == found.receiver_ids == question.token_ids
    assert not found.sharer_pads and not found.receiver_pads
    assert found.one_to_one == (len(found.sendable), len(found.sendable))
    monkeypatch.setitem(SELECTORS, "of_message", OfTheMessage(found))
    with_it, without = Channel("int8", alignment=alignment), Channel("int8", 0.5, "of_message")
    packets = [
        pipeline.send(pair, with_it, under, under, "matched"),
        pipeline.send(pair, without, question, question, "matched"),
    ]
    assert packets[0] == packets[1]
    first, second = (pipeline.prefill(pair, q, packets[0]).logits for q in (under, question))
    assert torch.equal(first, second)


def test_what_cannot_be_aligned_is_left_unanswered_and_stops_nothing() -> None:
    pair = stopping(pair_of_two(torch.float64, True))
    trimming = second_tokenizer.__wrapped__()
    trimming.chat_template = trimming.chat_template.replace(
        "message.content", "(message.content | replace('green green', 'green'))"
    )
    pair = replace(pair, sharer_tokenizer=trimming)
    examples = [question.example for question in make_questions(first_tokenizer(), [3, 2, 4])]
    examples[1] = replace(examples[1], question="Is it green green?")
    asked = tokenize(SHORT, examples, pair.tokenizer, trimming)
    donors = asked[1:] + asked[:1]
    conditions = [*ALONE, *c2c("int8", "first")[:2]]
    records = engine.evaluate(pair, conditions, asked, donors, 2)
    for condition in conditions:
        assert records[condition] == [
            pipeline.evaluate(pair, condition, *both) for both in zip(asked, donors, strict=True)
        ]
    left = [[row for row, r in enumerate(records[c]) if r.unanswered] for c in conditions]
    assert left == [[], [], [1], [0, 1]]  # deranged: its own, and the one that it is lent to
    assert "sharer's chat template changes message 1" in str(records[conditions[2]][1].unanswered)


@pytest.mark.parametrize("codec", ["tokens:int8:int4:int2", "int8"])
def test_what_cannot_be_sent_has_no_part_in_the_choice(two: LoadedPair, codec: str) -> None:
    (question,) = asked_of(two, [30])
    question = question.under("first")
    text = sharers_text(two.interface, question)
    cache = read_as_sharer(two, text)
    other = unsendable_factor(cache.tokens, text)
    channel = Channel(codec, 1, "vnorm", alignment="first", budget_ratio=0.15)
    packet = packet_of(two, channel, cache, text)
    assert packet and packet == packet_of(two, channel, cache.map(lambda x: x * other), text)


def test_what_cannot_be_sent_has_no_part_in_schedules(
    two: LoadedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [question.under("first") for question in asked_of(two, [5, 30])]
    told = distortions(two, asked)

    def altered(pair: LoadedPair, text: Text) -> KVCache:
        cache = read_as_sharer(pair, text)
        return cache.map(lambda x: x * unsendable_factor(cache.tokens, text))

    monkeypatch.setattr(tensor_distortion, "read_as_sharer", altered)
    assert distortions(two, asked) == told


def unsendable_factor(tokens: int, text: Text) -> Tensor:
    return torch.tensor([1.0 if place in text.sent else 1e4 for place in range(tokens)])[:, None]
