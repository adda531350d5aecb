"""A question that cannot be answered under a condition is recorded as that, and alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from random_questions import stopping
from tiny import loaded_pair
from transformers import PreTrainedModel

from latentwire.channel.codec import CodecError
from latentwire.channel.endpoint import Arrived, Endpoint
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.codec_measurement import measure
from latentwire.evaluation.fit_calibration import calibrate
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.record import Record
from latentwire.evaluation.unanswerable import NOT_FINITE, readable
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question
from latentwire.tasks.task import Prompts

RECEIVER, SHARER = Condition("receiver"), Condition("sharer")
CONDITIONS = [
    RECEIVER,
    SHARER,
    *(Condition("c2c", Channel("int8"), c) for c in ("matched", "deranged", "zero")),
    *(Condition("c2c", Channel("int4", 0.5, order), "matched") for order in ("front", "back")),
    Condition("c2c", Channel("int8", 0.0), "matched"),
]
BROKEN = 3  # a token that only one question of the tests has
LENGTHS = [12, 2, 12, 23, 3, 12]


def poison(model: PreTrainedModel) -> None:
    """One token means no number."""
    with torch.no_grad():
        model.get_input_embeddings().weight[BROKEN] = torch.nan


@pytest.fixture
def pair() -> LoadedPair:
    return stopping(loaded_pair(torch.float64))


def reading(question: Question, ids: tuple[int, ...]) -> Question:
    """The question with another prompt."""
    return replace(question, prompts=Prompts(ids, ids))


@pytest.fixture
def asked(questions: Callable[..., list[Question]]) -> list[Question]:
    """Questions of which the third alone has the token."""
    found = [
        reading(q, tuple(5 if token == BROKEN else token for token in q.token_ids))
        for q in questions(LENGTHS)
    ]
    ids = found[2].token_ids
    found[2] = reading(found[2], (*ids[:4], BROKEN, *ids[5:]))
    return found


def both_ways(
    pair: LoadedPair, asked: list[Question], donors: list[Question], batch_size: int | None
) -> dict[Condition, list[Record]]:
    """The records, once batches are seen to give the definition's."""
    found = engine.evaluate(pair, CONDITIONS, asked, donors, batch_size)
    for condition in CONDITIONS:
        assert found[condition] == [
            pipeline.evaluate(pair, condition, *both) for both in zip(asked, donors, strict=True)
        ], condition.label
    return found


def unanswered(found: dict[Condition, list[Record]]) -> dict[Condition, list[int]]:
    return {
        condition: [row for row, record in enumerate(records) if record.unanswered]
        for condition, records in found.items()
    }


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_cache_that_cannot_be_sent_takes_no_other_with_it(
    batch_size: int | None, pair: LoadedPair, asked: list[Question]
) -> None:
    clean = engine.evaluate(pair, CONDITIONS, asked, asked[::-1], batch_size)
    poison(pair.sharer)
    found = both_ways(pair, asked, asked[::-1], batch_size)
    matched, deranged, zero, front, back, nothing = CONDITIONS[2:]
    expected = {SHARER: [2], matched: [2], deranged: [3], front: [2], back: [2]}
    assert unanswered(found) == {RECEIVER: [], zero: [], nothing: []} | expected
    for condition, records in found.items():
        for row, record in enumerate(records):
            if record.unanswered is None:
                assert record == clean[condition][row]
    lost = found[deranged][3]
    assert lost.unanswered is not None and lost.unanswered.startswith("int8: ")
    assert (lost.predicted, lost.correct, lost.wire_bytes, lost.output) == (None, False, 0, "")
    assert (lost.example_id, lost.donor_id) == (asked[3].example.id, asked[2].example.id)


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_logits_that_are_no_numbers_leave_one_question_unanswered(
    batch_size: int | None, pair: LoadedPair, asked: list[Question]
) -> None:
    poison(pair.receiver)
    found = both_ways(pair, asked, asked[::-1], batch_size)
    by_receiver = [c for c in CONDITIONS if c != SHARER]
    assert unanswered(found) == {SHARER: []} | {c: [2] for c in by_receiver}
    assert {found[c][2].unanswered for c in by_receiver} == {NOT_FINITE}


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_prompt_longer_than_the_context_is_not_asked(
    batch_size: int | None, pair: LoadedPair, asked: list[Question]
) -> None:
    told: list[int] = []
    pair.receiver.config.max_position_embeddings = 22
    pair.sharer.config.max_position_embeddings = 12
    found = both_ways(pair, asked, asked[::-1], batch_size)
    deranged = CONDITIONS[3]
    assert unanswered(found) == {c: [3] for c in CONDITIONS} | {deranged: [2, 3]}
    assert found[RECEIVER][3].unanswered == (
        "a prompt of 23 tokens is longer than the 22 positions that the receiver was made for"
    )
    assert "the sharer was made for" in str(found[deranged][2].unanswered)
    engine.evaluate(pair, CONDITIONS, asked, asked, batch_size, told.append)
    assert sum(told) == len(CONDITIONS) * len(asked)


def test_what_is_measured_on_a_sample_leaves_them_out(
    pair: LoadedPair, asked: list[Question]
) -> None:
    channel = Channel("int8")
    others = [question for place, question in enumerate(asked) if place != 2]
    clean, packet = measure(pair, channel, others)
    fitted = calibrate(pair, others, {"of": "these"})
    poison(pair.sharer)
    found, example = measure(pair, channel, [asked[2], *others])
    assert (found.key_error, found.wire_bytes_mean) == (clean.key_error, clean.wire_bytes_mean)
    assert found.kl_nats_mean == clean.kl_nats_mean
    assert example == packet
    assert calibrate(pair, [*others[:2], asked[2], *others[2:]], {"of": "these"}) == fitted
    with pytest.raises(Unanswerable, match="int8: "):
        measure(pair, channel, [asked[2]])
    with pytest.raises(LatentWireError, match="NaN or infinite"):
        calibrate(pair, [asked[2]], {"of": "these"})
    pair.sharer.config.max_position_embeddings = 2
    assert readable(pair, asked) == [asked[1]]
    with pytest.raises(LatentWireError, match="none of 1 questions can be read: a prompt of 12"):
        readable(pair, asked[:1])


@pytest.mark.usefixtures("short_answers")
def test_a_refusal_that_no_packet_explains_is_not_recorded(
    pair: LoadedPair, asked: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Arrived:
        raise CodecError("a mistake in the code")

    monkeypatch.setattr(Endpoint, "simulate_each", broken)
    with pytest.raises(CodecError, match="a mistake in the code"):
        engine.evaluate(pair, CONDITIONS, asked, asked)
