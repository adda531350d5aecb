"""Text, letter and logits on the bundled pair, question by question."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from latentwire.channel.text import encode_text
from latentwire.condition import Condition, Message
from latentwire.data.message import prompt_with_message_token_ids, stem_and_options
from latentwire.data.prompt import prompt_token_ids
from latentwire.errors import LatentWireError
from latentwire.evaluation import competitors, engine, pipeline
from latentwire.evaluation.pair import LoadedPair
from latentwire.evaluation.question import Question
from latentwire.milestones.study import Study
from latentwire.pairs.load import load_pair
from latentwire.parameters import STUDY, checked

RECEIVER, SHARER = Condition("receiver"), Condition("sharer")


@pytest.fixture(scope="module")
def study() -> Study:
    raw = {"pair": "demo", "device": "cpu", "limit": "8"}
    values = checked(STUDY, {p.name: raw.get(p.name, p.default) for p in STUDY})
    return Study(values, load_pair("demo"), "cpu", torch.float32, store=None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def demo(study: Study) -> LoadedPair:
    return study.loaded


@pytest.fixture(scope="module")
def asked(study: Study) -> list[tuple[Question, Question]]:
    questions, donors = study.questions(study.dataset_names[0])
    return list(zip(questions[:6], donors[:6], strict=True))


def test_a_shorter_message_is_the_longer_ones_beginning(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    for question, _ in asked:
        messages = [competitors.write_message(demo, question, n) for n in (1, 2, 8, 32)]
        for shorter, longer in pairwise(messages):
            assert longer.startswith(shorter)


@pytest.mark.parametrize("codec", ["utf8", "utf8+zstd"])
def test_text_is_sent_and_counted(
    codec: str, demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    for control in ("matched", "deranged"):
        condition = Condition("text", control=control, message=Message(codec, 8))
        for question, donor in asked[:3]:
            record = competitors.evaluate(demo, condition, question, donor)
            source = donor if control == "deranged" else question
            assert record.message == competitors.write_message(demo, source, 8)
            assert record.wire_bytes == len(encode_text(record.message, codec))
            assert record.answer == question.example.answer
            assert record.donor_id == (donor.example.id if control == "deranged" else None)


def test_without_a_message_the_receiver_reads_its_plain_prompt(
    demo: LoadedPair,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(competitors, "write_message", lambda *_: "")
    condition = Condition("text", control="matched", message=Message("utf8+zstd", 8))
    for question, donor in asked:
        alone = pipeline.evaluate(demo, RECEIVER, question, question)
        record = competitors.evaluate(demo, condition, question, donor)
        assert record == replace(alone, message="")


def test_a_message_stands_before_the_question_and_changes_nothing_else(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    example = asked[0][0].example
    plain = prompt_token_ids(demo.tokenizer, example.question, example.choices)
    told = prompt_with_message_token_ids(demo.tokenizer, example.question, example.choices, "north")
    text = demo.tokenizer.decode(told)
    assert "north" in text
    assert len(told) > len(plain) and told[-40:] == plain[-40:]


def test_the_letter_is_the_sharers_answer(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    for question, donor in asked:
        for control, source in (("matched", question), ("deranged", donor)):
            condition = Condition("letter", control=control)
            record = competitors.evaluate(demo, condition, question, donor)
            theirs = pipeline.evaluate(demo, SHARER, source, source).predicted
            assert theirs is not None
            assert (record.predicted, record.wire_bytes) == (theirs, 1)
            assert record.correct == (theirs == question.example.answer)


def test_without_a_letter_the_receiver_answers_by_itself(
    demo: LoadedPair,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question, donor = asked[0]
    alone = pipeline.evaluate(demo, RECEIVER, question, question)
    real = competitors._generated

    def silent(pair: LoadedPair, model: object, ids: list[int], tokens: int) -> list[int]:
        return [] if model is pair.sharer else real(pair, model, ids, tokens)  # type: ignore[arg-type]

    monkeypatch.setattr(competitors, "_generated", silent)
    record = competitors.evaluate(demo, Condition("letter", control="matched"), question, donor)
    assert record == replace(alone, message="")


def test_logits_are_eight_bytes_and_the_largest_sum_wins(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    for question, donor in asked:
        record = competitors.evaluate(demo, Condition("logits", control="matched"), question, donor)
        both = [
            competitors.option_logprobs(demo, model, question)
            for model in (demo.receiver, demo.sharer)
        ]
        for logprobs in both:
            assert np.exp(logprobs).sum() == pytest.approx(1)
        assert record.wire_bytes == 8
        assert record.predicted == "ABCD"[int((both[0] + both[1].astype("<f2")).argmax())]


def test_a_prior_is_taken_off(demo: LoadedPair, asked: list[tuple[Question, Question]]) -> None:
    prior = competitors.letter_prior(demo, 4)
    assert np.exp(prior).sum() == pytest.approx(1)
    for question, donor in asked:
        record = competitors.evaluate(demo, Condition("calibrated"), question, donor)
        own = competitors.option_logprobs(demo, demo.receiver, question)
        assert record.predicted == "ABCD"[int((own - prior).argmax())]
        assert record.wire_bytes == 0


def test_fewer_options_are_not_answered_beyond_and_more_are_refused(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    assert not np.isnan(competitors.letter_prior(demo, 3)).any()
    assert competitors.letter_prior(demo, 3)[3] == 0
    with pytest.raises(LatentWireError, match="1 to 4 options, but a question has 5"):
        stem_and_options(demo.tokenizer, 5)


def test_log_probabilities_keep_infinities_and_refuse_damage() -> None:
    sent = np.array([-0.5, -1.25, -np.inf, -3.0])
    assert (competitors.decode_logprobs(competitors.encode_logprobs(sent)) == sent).all()
    for damaged in (b"\0" * 7, b"\xff" * 8):
        with pytest.raises(LatentWireError):
            competitors.decode_logprobs(damaged)


def test_neither_pipeline_nor_engine_takes_them_for_something_else(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    question, donor = asked[0]
    condition = Condition("letter", control="matched")
    with pytest.raises(LatentWireError, match="competitors"):
        pipeline.evaluate(demo, condition, question, donor)
    with pytest.raises(LatentWireError, match="batches"):
        engine.evaluate(demo, [condition], [question], [donor])


def test_options_are_read_where_the_sharer_writes_its_letter(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    for question, _ in asked:
        logprobs = competitors.option_logprobs(demo, demo.sharer, question)
        answered = pipeline.evaluate(demo, SHARER, question, question).predicted
        assert "ABCD"[int(logprobs.argmax())] == answered


def test_under_deranged_another_questions_message_is_sent(
    demo: LoadedPair,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The bundled sharer writes nearly the same to every question, so it cannot show this.
    monkeypatch.setattr(
        competitors, "write_message", lambda pair, source, tokens: source.example.id
    )
    question, donor = asked[0]
    assert question.example.id != donor.example.id
    for control, source in (("matched", question), ("deranged", donor)):
        condition = Condition("text", control=control, message=Message("utf8", 8))
        record = competitors.evaluate(demo, condition, question, donor)
        assert record.message == source.example.id
