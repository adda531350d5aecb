"""The readable definition against one more, written from the protocol's text alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny import loaded_pair, make_tokenizer
from tiny import make_questions as real_questions
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache
from c2c.receiver import extend
from c2c.sharer import read
from latentwire.channel.packet import PacketError
from latentwire.evaluation import pipeline
from latentwire.evaluation.loaded_pair import LoadedPair, stop_ids
from latentwire.evaluation.reading import Text
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.answer_letter import answer_letter
from latentwire.tasks.question import Question

MakeQuestions = Callable[..., list[Question]]
RECEIVER, SHARER = Condition("receiver"), Condition("sharer")


def c2c(
    codec: str = "fp32", ratio: float = 1.0, order: str = "front", control: str = "matched"
) -> Condition:
    return Condition("c2c", Channel(codec, ratio, order), control)


def generated(model: PreTrainedModel, question: Question, tokens: int) -> list[int]:
    """transformers' greedy answer, without the stop token."""
    ids = torch.tensor([question.token_ids])
    answer = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )[0, ids.shape[1] :].tolist()
    return answer[:-1] if answer[-1] in stop_ids(model) else answer


@pytest.mark.parametrize("system", ["receiver", "sharer"])
def test_a_model_alone_answers_as_transformers_would(
    system: str, pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    model = pair.receiver if system == "receiver" else pair.sharer
    lengths = set()
    for question in questions([5, 9, 12, 20, 31, 8]):
        record = pipeline.evaluate(pair, Condition(system), question, question)
        answer = generated(model, question, short_answers)
        assert record.output == pair.tokenizer.decode(answer, skip_special_tokens=True)
        assert record.generated_tokens == len(answer)
        assert record.wire_bytes == 0
        assert record.donor_id is None
        lengths.add(len(answer))
    assert len(lengths) > 1  # some were stopped


def test_the_protocols_64_tokens_are_decoded(questions: MakeQuestions) -> None:
    pair = loaded_pair()
    pair.receiver.generation_config.eos_token_id = None
    (question,) = questions([6])
    assert pipeline.evaluate(pair, RECEIVER, question, question).generated_tokens == 64


def step_by_step(pair: LoadedPair, question: Question, lent: KVCache, kept: range) -> torch.Tensor:
    """The last position's logits, with the tokens `kept` fused from `lent`, whole and unpacked."""
    ids = torch.tensor([question.token_ids])
    if kept.stop == ids.shape[1] - 1:  # back, or everything
        own = read(pair.receiver, ids)
    else:
        own = read(pair.receiver, ids[:, : kept.stop + 1])
    start, stop = kept.start, kept.stop
    part = pair.interface.merge(lent.section(start, stop), own.section(start, stop))
    cache = DynamicCache()
    for layer in range(own.layers):
        key = torch.cat([own.keys[layer][:, :, :start], part.keys[layer]], dim=2)
        value = torch.cat([own.values[layer][:, :, :start], part.values[layer]], dim=2)
        cache.update(key, value, layer)
    with torch.inference_mode():
        return extend(pair.receiver, cache, ids[:, stop:])


@pytest.mark.parametrize(
    ("ratio", "order", "kept"),
    [
        (1.0, "front", range(14)),
        (0.5, "front", range(7)),
        (0.5, "back", range(7, 14)),
        (0.1, "back", range(13, 14)),
    ],
)
@pytest.mark.parametrize("control", ["matched", "deranged", "zero"])
def test_fusion_follows_the_protocol(
    ratio: float,
    order: str,
    kept: range,
    control: str,
    pair: LoadedPair,
    questions: MakeQuestions,
) -> None:
    question, donor = questions([15, 15])
    condition = c2c("fp32", ratio, order, control)
    assert condition.channel is not None
    packet = pipeline.send(pair, condition.channel, question, donor, control)
    prefilled = pipeline.prefill(pair, question, packet)
    source = donor if control == "deranged" else question
    lent = read(pair.sharer, torch.tensor([source.token_ids]))
    if control == "zero":
        lent = lent.map(torch.zeros_like)
    wanted = step_by_step(pair, question, lent, kept)
    torch.testing.assert_close(prefilled.logits, wanted, rtol=0, atol=2e-5)
    plain = read_alone(pair, question)
    assert float((wanted - plain).abs().max()) > 1e-2  # the fusion matters


def read_alone(pair: LoadedPair, question: Question) -> torch.Tensor:
    with torch.inference_mode():
        return pair.receiver(torch.tensor([question.token_ids])).logits[:, -1]


def test_nothing_kept_is_the_receiver_alone_for_no_bytes(
    pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    for question in questions([7, 12]):
        alone = pipeline.evaluate(pair, RECEIVER, question, question)
        for ratio in (0.0, 0.05):  # floor(11 * 0.05) is none
            assert pipeline.evaluate(pair, c2c("int8", ratio), question, question) == alone


def test_closed_gates_are_the_receiver_alone_for_a_header(
    questions: MakeQuestions, short_answers: int
) -> None:
    pair = loaded_pair(gates="closed")
    for question in questions([7, 12]):
        alone = pipeline.evaluate(pair, RECEIVER, question, question)
        fused = pipeline.evaluate(pair, c2c("bf16"), question, question)
        assert replace(fused, wire_bytes=0) == alone
        assert 0 < fused.wire_bytes < 40


def test_bytes_are_the_length_of_the_packet_that_was_sent(
    pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    question, donor = questions([20, 31])
    for condition in (c2c("int8"), c2c("int4", 0.5, "back"), c2c("bf16", 0.3, control="zero")):
        channel = condition.channel
        assert channel is not None
        packet = pipeline.send(pair, channel, question, donor, condition.control)
        record = pipeline.evaluate(pair, condition, question, donor)
        assert record.wire_bytes == len(packet) > 0
        # What is sent is as long whoever's cache it is.
        lent = pipeline.send(pair, channel, question, donor, "deranged")
        assert len(lent) == len(packet)


def test_the_receiver_reads_nothing_but_the_packet(
    pair: LoadedPair, questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    (question,) = questions([10])
    channel = Channel("int8")
    packet = pipeline.send(pair, channel, question, question, "matched")
    other = pipeline.send(pair, channel, question, question, "zero")
    logits = pipeline.prefill(pair, question, packet).logits
    assert not torch.equal(logits, pipeline.prefill(pair, question, other).logits)

    def unreachable(*arguments: object) -> None:
        raise AssertionError("the receiver's side asked the sharer")

    monkeypatch.setattr(pair.sharer, "forward", unreachable)
    assert torch.equal(logits, pipeline.prefill(pair, question, packet).logits)


def test_a_broken_packet_is_refused_and_not_answered(
    pair: LoadedPair, questions: MakeQuestions
) -> None:
    question, longer = questions([10, 14])
    channel = Channel("int4")
    packet = pipeline.send(pair, channel, question, question, "matched")
    for broken in (packet[:-1], packet[:-1] + bytes([packet[-1] ^ 1]), b"x"):
        with pytest.raises(PacketError):
            pipeline.prefill(pair, question, broken)
    with pytest.raises(PacketError, match="claims 13 tokens, where at most 9 can be"):
        too_long = pipeline.send(pair, channel, longer, longer, "matched")
        pipeline.prefill(pair, question, too_long)


def numbered(tokens: int) -> KVCache:
    tensor = torch.arange(tokens).float().view(1, 1, tokens, 1)
    return KVCache((tensor,), (tensor + 100,))


def test_a_lent_cache_is_cut_or_filled_at_its_front() -> None:
    def positions(cache: KVCache) -> list[int]:
        assert torch.equal(cache.values[0], cache.keys[0] + 100)
        return cache.keys[0].flatten().int().tolist()

    def fitted(have: int, want: int) -> list[int]:
        lent, own = (Text(tuple(range(tokens + 1))) for tokens in (have, want))
        return positions(pipeline.fitted(numbered(have), lent, own))

    assert fitted(5, 5) == [0, 1, 2, 3, 4]
    assert fitted(5, 3) == [2, 3, 4]
    assert fitted(3, 6) == [0, 0, 0, 0, 1, 2]
    # Of what can be sent alone; what stands elsewhere is never sent.
    lent, own = Text((7,) * 9, sendable=(2, 4, 5)), Text((7,) * 7, sendable=(1, 3, 4, 5))
    assert [positions(pipeline.fitted(numbered(8), lent, own))[n] for n in own.sent] == [2, 2, 4, 5]
    assert [positions(pipeline.fitted(numbered(6), own, lent))[n] for n in lent.sent] == [3, 4, 5]
    whole = loaded_pair(), numbered(4), [Text((7,) * 5)]
    for control in ("matched", "deranged"):
        assert positions(pipeline.apply_control(whole[0], control, *whole[1:])) == [0, 1, 2, 3]
    zero = pipeline.apply_control(whole[0], "zero", *whole[1:])
    assert zero.tokens == 4 and not zero.keys[0].any() and not zero.values[0].any()


def test_the_record_tells_who_asked_and_who_lent(short_answers: int, pair: LoadedPair) -> None:
    question, donor = real_questions(make_tokenizer(), [2, 5])
    record = pipeline.evaluate(pair, c2c("int8", control="deranged"), question, donor)
    assert (record.example_id, record.index, record.answer) == ("tiny:0", 0, "A")
    assert (record.donor_id, record.donor_answer) == ("tiny:1", "B")
    assert record.prompt_tokens == len(question.token_ids)
    assert record.predicted == answer_letter(record.output)
    assert record.correct == (record.predicted == "A")
    matched = pipeline.evaluate(pair, c2c("int8"), question, donor)
    assert (matched.donor_id, matched.donor_answer) == (None, None)


@pytest.mark.parametrize(
    ("output", "letter", "correct"),
    [
        ("The correct answer is B", "B", True),
        ("The correct answer is C", "C", False),
        ("", None, False),
    ],
)
def test_an_answer_is_read_and_scored(
    output: str, letter: str | None, correct: bool, pair: LoadedPair
) -> None:
    _, question = real_questions(make_tokenizer(), [1, 2])  # its key is B
    ids = pair.tokenizer.encode(output, add_special_tokens=False)
    record = pipeline.written_record(pair, RECEIVER, question, question, ids, 5)
    assert (record.output, record.predicted, record.correct) == (output, letter, correct)
    assert (record.generated_tokens, record.wire_bytes) == (len(ids), 5)


def test_without_a_packet_the_receiver_is_alone(pair: LoadedPair, questions: MakeQuestions) -> None:
    (question,) = questions([13])
    ours = pipeline.prefill(pair, question, b"").logits
    torch.testing.assert_close(ours, read_alone(pair, question), rtol=0, atol=1e-5)
