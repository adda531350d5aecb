"""The interface `prefix` with one model at both ends, and evidence that the sharer alone reads."""

from collections.abc import Sequence
from dataclasses import replace

import private_task
import pytest
import torch
import wire_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from random_questions import SHORT, STOPS, self_pair
from random_questions import private_questions as asked
from tiny import make_model
from transformers import DynamicCache, PreTrainedModel

from c2c import sharer
from c2c.cache import KVCache, geometry
from latentwire.channel.describe import describe
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import TOLD_VERSION, VERSION, PacketError
from latentwire.channel.selectors.registry import SELECTORS, select
from latentwire.channel.sent_rows import SentRows
from latentwire.errors import LatentWireError
from latentwire.evaluation import (
    baselines,
    codec_measurement,
    engine,
    latency,
    latency_names,
    pipeline,
)
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.interfaces.registry import without_weights
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.tasks.passage import PassageExample
from latentwire.tasks.question import derange, tokenize
from latentwire.tasks.task import Prompts, user_turn_token_ids

ALONE = [Condition("receiver"), Condition("sharer")]
WHOLE = Condition("c2c", Channel("fp32"), "matched")
WHOLE_TOKENS = [name for name, selector in SELECTORS.items() if not selector.by_layer]
PARTS = [Channel("fp32", ratio, order) for ratio in (0.7, 0.3) for order in WHOLE_TOKENS]


@pytest.fixture(scope="module")
def pair() -> LoadedPair:
    return self_pair()


@torch.inference_mode()
def plainly(
    model: PreTrainedModel, evidence: Sequence[int], prompt: Sequence[int], seen: Sequence[int]
) -> list[int]:
    """What the model answers that read the evidence whole, once all but its tokens at the places
    `seen` are hidden. By transformers alone: the cache stays whole, a mask hides."""
    cache = DynamicCache()
    model(torch.tensor([evidence]), past_key_values=cache)
    mask, answer, new = [int(place in seen) for place in range(len(evidence))], [], list(prompt)
    while len(answer) < SHORT.max_new_tokens:
        first = len(mask)
        mask += [1] * len(new)
        output = model(
            torch.tensor([new]),
            attention_mask=torch.tensor([mask]),
            position_ids=torch.arange(first, len(mask))[None],
            past_key_values=cache,
        )
        token = int(output.logits[0, -1].argmax())
        if token in STOPS:
            break
        answer.append(token)
        new = [token]
    return answer


def said(pair: LoadedPair, tokens: Sequence[int]) -> str:
    return str(pair.tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
@settings(max_examples=6, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=5),
    channel=st.sampled_from([WHOLE.channel, *PARTS]),
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_answers_are_those_of_the_model_that_reads_everything(
    architecture: str,
    sizes: list[tuple[int, int]],
    channel: Channel,
    batch_size: int,
    seed: int,
) -> None:
    pair, questions = self_pair(architecture), asked(sizes, seed)
    condition = Condition("c2c", channel, "matched")
    conditions = [condition, Condition("sharer")]
    found = engine.evaluate(pair, conditions, questions, derange(questions, 42), batch_size)
    for row, question in enumerate(questions):
        evidence, prompt = question.prompts.sharer_ids, question.prompts.receiver_ids
        places, ids = range(len(evidence)), (*evidence, evidence[0])
        cache = sharer.read(pair.sharer, torch.tensor([ids]), queries=True)
        kept = select(channel, cache, ids).tokens(0)
        assert len(kept) == int(len(evidence) * channel.keep_ratio)
        record = pipeline.evaluate(pair, condition, question, question)
        if kept:
            assert record.output == said(pair, plainly(pair.receiver, evidence, prompt, kept))
        else:  # nothing is sent: the prompt begins the text
            alone = pipeline.evaluate(pair, Condition("receiver"), question, question)
            assert record.output == alone.output and not record.wire_bytes
        assert found[condition][row] == record
        everything = plainly(pair.sharer, evidence, prompt, places)
        assert found[conditions[1]][row].output == said(pair, everything)


def test_every_condition_in_batches_is_the_definitions(pair: LoadedPair) -> None:
    questions = asked([(30, 5), (0, 9), (7, 12), (19, 1), (44, 6)])
    donors = derange(questions, 42)
    sent = [
        Condition("c2c", channel, control)
        for channel in (WHOLE.channel, *PARTS[:2], Channel("fp32", 0.0))
        for control in ("matched", "deranged", "zero")
        if channel
    ]
    conditions = [*ALONE, *sent]
    found = engine.evaluate(pair, conditions, questions, donors, 3)
    for condition in conditions:
        for row, both in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, *both)
    by_control = [
        [record.output for record in found[Condition("c2c", WHOLE.channel, control)]]
        for control in ("matched", "deranged", "zero")
    ]
    matched, deranged, _ = by_control
    receiver, sharer = ([record.output for record in found[c]] for c in ALONE)
    assert len({tuple(outputs) for outputs in (*by_control, receiver)}) == 4
    assert matched == sharer
    # A donor's cache has its own length and positions: as if the model had read its evidence.
    for question, donor, output in zip(questions, donors, deranged, strict=True):
        read = donor.prompts.sharer_ids, question.prompts.receiver_ids
        assert output == said(pair, plainly(pair.receiver, *read, range(len(read[0]))))
    prompts = [record.prompt_tokens for record in found[ALONE[1]]]
    assert prompts == [len(question.prompts.everything) for question in questions]


@pytest.mark.parametrize(("batch_size", "messages"), [(1, 7), (4, 3), (8, 3)])
def test_of_questions_on_one_evidence_the_message_is_made_once(
    pair: LoadedPair, batch_size: int, messages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = asked([(30, 5), (7, 12), (0, 3), (0, 9), (0, 4), (19, 6), (0, 6)])
    questions = [  # as of a chat template: all of the receiver's prompts begin alike
        replace(q, prompts=replace(q.prompts, receiver_ids=(5, *q.prompts.receiver_ids)))
        for q in questions
    ]
    # Not side by side: their order alone does not bring them together.
    questions.insert(1, questions.pop(5))
    donors = derange(questions, 42)
    conditions = [
        Condition("c2c", channel, control)
        for channel in (WHOLE.channel, PARTS[0], Channel("int4"))
        for control in ("matched", "deranged", "zero")
        if channel
    ]
    made = []
    simulate = Endpoint.simulate_each

    def making(endpoint: Endpoint, channels: list, cache: KVCache, chosen: SentRows):
        made.extend(len(chosen) for _ in channels)
        assert len(cache.keys[0]) == len(chosen)
        return simulate(endpoint, channels, cache, chosen)

    monkeypatch.setattr(Endpoint, "simulate_each", making)
    found = engine.evaluate(pair, conditions, questions, donors, batch_size)
    for condition in conditions:
        for row, both in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, *both)
    assert sum(made) == len(conditions) * messages


def test_a_donor_is_a_question_on_other_evidence() -> None:
    questions = asked([(9, 3), (0, 4), (0, 5), (8, 3), (9, 2), (0, 2)])
    for seed in range(5):
        donors = derange(questions, seed)
        evidence = [q.prompts.sharer_ids for q in questions]
        lent = [q.prompts.sharer_ids for q in donors]
        assert all(one != other for one, other in zip(evidence, lent, strict=True))
        assert {*lent} == {*evidence}
    assert derange(questions[:2], 1) == [questions[0]] * 2  # there is no other


def test_the_packet_says_how_long_the_text_was_where_its_end_was_not_sent(
    pair: LoadedPair,
) -> None:
    (question,) = asked([(10, 4)])

    def packet(ratio: float, order: str) -> bytes:
        return pipeline.send(pair, Channel("fp32", ratio, order), question, question, "matched")

    versions = {(r, order): packet(r, order)[4] for r in (1.0, 0.5) for order in ("front", "back")}
    assert versions.pop((0.5, "front")) == TOLD_VERSION
    assert {*versions.values()} == {VERSION}
    told, silent = packet(0.5, "front"), packet(0.5, "back")
    assert len(told) == len(silent) + 1  # a varint
    read = wire_decoder.read(told)
    assert read.text_tokens == 10 and read.positions == list(range(5))
    assert "0 to 4; of a text of 10" in describe(told)
    merging = replace(pair, endpoint=replace(pair.endpoint, inserts=False))
    with pytest.raises(PacketError, match="tells where a prompt begins"):
        pipeline.prefill(merging, question, told)


def test_a_text_longer_than_the_context_is_left_unanswered(pair: LoadedPair) -> None:
    questions = asked([(700, 500), (20, 5)])
    found = engine.evaluate(pair, [*ALONE, WHOLE], questions, questions)
    for condition in (ALONE[1], WHOLE):
        assert "a prompt of 1200 tokens is longer" in str(found[condition][0].unanswered)
        assert found[condition][1].unanswered is None
    assert found[ALONE[0]][0].unanswered is None


def test_in_16_bits_nothing_is_lost_on_the_way() -> None:
    pair = self_pair(dtype=torch.bfloat16)
    questions = asked([(30, 5), (7, 9)])
    measured, _ = codec_measurement.measure(pair, Channel("bf16"), questions)
    assert measured.kl_nats_mean == 0 and measured.same_token_share == 1
    assert {*measured.key_error.values(), *measured.value_error.values()} == {0.0}
    found, _ = codec_measurement.measure(pair, Channel("int2"), questions)
    assert found.kl_nats_mean > 0


def test_it_takes_one_shape_of_cache() -> None:
    one, other = (geometry(make_model(name).config) for name in ("qwen2", "qwen3"))
    with pytest.raises(LatentWireError, match=r"no weights in this pair.*train it first") as error:
        without_weights("prefix", one, other)
    assert "\n" not in str(error.value)
    with pytest.raises(LatentWireError, match="'c2c' is no interface that a pair can have without"):
        without_weights("c2c", one, one)


def test_what_competes_is_the_evidence_as_text(pair: LoadedPair) -> None:
    examples = [
        PassageExample(str(n), n, "Who?", (), "A", text)
        for n, text in enumerate(["The box is red and the hat is blue.", "A grey cat."])
    ]
    questions = tokenize(private_task.TASK, examples, pair.tokenizer)
    donors = derange(questions, 42)
    whole, part = (Message("utf8", tokens) for tokens in (99, 4))
    texts = [
        Condition("text", control=control, message=message)
        for message in (whole, part)
        for control in ("matched", "deranged")
    ]
    silent = [Condition(system, control="matched") for system in ("letter", "logits")]
    conditions = [*texts, *silent, Condition("sharer")]
    found = engine.evaluate(pair, conditions, questions, donors, 2)
    models = baselines.ReferenceModels(pair)
    for condition in [*texts, *silent]:
        for row, both in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == baselines.evaluate(models, condition, *both)
    for row, question in enumerate(questions):
        record = found[texts[0]][row]
        assert record.message == examples[row].passage + "\n"
        assert record.wire_bytes == len(examples[row].passage) + 1
        assert record.output == found[Condition("sharer")][row].output
        assert record.prompt_tokens == len(question.prompts.everything)
        assert examples[row].passage.startswith(str(found[texts[2]][row].message))
        for condition in silent:
            assert "no answer that it could send" in str(found[condition][row].unanswered)


def test_what_competes_is_a_summary_of_a_size_that_the_sharer_is_told(
    pair: LoadedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["The box is red and the hat is blue.", "A grey cat.", "A grey cat."]
    examples = [PassageExample(str(n), n, "Who?", (), "A", text) for n, text in enumerate(texts)]
    questions = tokenize(private_task.TASK, examples, pair.tokenizer)
    donors = derange(questions, 42)
    conditions = [
        Condition("summary", control=control, message=Message(codec, tokens))
        for codec in ("utf8", "utf8+zstd")
        for tokens in (3, 8)
        for control in ("matched", "deranged")
    ]
    models = baselines.ReferenceModels(pair)
    written = []
    write = models.write
    monkeypatch.setattr(models, "write", lambda *asked: written.append(asked[:2]) or write(*asked))
    found = engine.evaluate(pair, conditions, questions, donors, 2)
    for condition in conditions:
        for row, both in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == baselines.evaluate(models, condition, *both)
    said = {pair.tokenizer.decode(prompt) for name, prompt in written if name == "sharer"}
    assert len(said) == 4  # two evidences, two budgets
    assert all(any(f"at most {n} tokens" in text for text in said) for n in (3, 8))
    assert all(text.startswith(("The box", "A grey")) for text in said)
    own = found[conditions[0]]
    for record, question in zip(own, questions, strict=True):
        told = user_turn_token_ids(pair.tokenizer, record.message, False) if record.message else []
        assert record.wire_bytes == len(str(record.message).encode())
        assert record.prompt_tokens == len(told) + len(question.prompts.receiver_ids)
    assert any(record.message for record in own)
    both = questions[0].prompts.receiver_ids
    shared = replace(questions[0], prompts=Prompts(both, both))
    record = baselines.evaluate(models, conditions[0], shared, shared)
    assert "no evidence to sum up" in str(record.unanswered)


def test_times_are_taken_of_both_ways(pair: LoadedPair) -> None:
    (question,) = asked([(30, 5)])
    measured = latency.measure(pair, [question])
    assert (
        measured[latency_names.SHARER_PREFILL] > 0 and measured[latency_names.RECEIVER_PREFILL] > 0
    )
    write, reading, size = latency_names.text_names(8)
    assert measured[write] == 0 and measured[reading] > 0 and measured[size] > 0
    text = pair.tokenizer.decode(question.prompts.sharer_ids)
    assert measured[latency_names.EVIDENCE_BYTES] == len(text.encode()) > measured[size]
    assert measured[latency_names.EVIDENCE_READ] > 0
    summaries = [measured[latency_names.summary_name(n)] for n in latency_names.BUDGETS]
    assert 0 < summaries[0] <= summaries[-1] and summaries == sorted(summaries)
