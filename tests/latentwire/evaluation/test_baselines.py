"""Text, letter and logits on the bundled pair, question by question."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from latentwire.channel.text_codec import decode_text, encode_text
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation import baselines, baselines_batched, engine, pipeline
from latentwire.evaluation.baselines import Prompt, ReferenceModels
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.message import prompt_with_message_token_ids, stem_and_options
from latentwire.evaluation.record import Record
from latentwire.evaluation.text_model import TextModel
from latentwire.evaluation.workspace import Workspace
from latentwire.pairs.load import load_pair
from latentwire.parameters import STUDY, checked
from latentwire.session.configuration import Configuration
from latentwire.session.session import Session
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.tasks.question import Question, tokenize

RECEIVER, SHARER = Condition("receiver"), Condition("sharer")
NAMES = ("receiver", "sharer")


@pytest.fixture(scope="module")
def session() -> Session:
    raw = {"pair": "demo", "device": "cpu", "limit": "8"}
    values = checked(STUDY, {p.name: raw.get(p.name, p.default) for p in STUDY})
    return Session.of(Configuration(values, load_pair("demo"), "cpu", "float32"), store=None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def demo(session: Session) -> LoadedPair:
    return session.loaded


@pytest.fixture(scope="module")
def models(demo: LoadedPair) -> ReferenceModels:
    return ReferenceModels(demo)


@pytest.fixture(scope="module")
def asked(session: Session) -> list[tuple[Question, Question]]:
    name = session.dataset_names[0]
    questions, donors = session.asked(name), session.donors(name)
    return list(zip(questions[:6], donors[:6], strict=True))


@pytest.fixture
def talkative(demo: LoadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled sharer writes one letter and ends; without a stop token it goes on."""
    monkeypatch.setattr(demo.sharer.generation_config, "eos_token_id", None)


def test_a_shorter_message_is_the_longer_ones_beginning(
    models: ReferenceModels, asked: list[tuple[Question, Question]], talkative: None
) -> None:
    for question, _ in asked:
        prompt = models.prompts.message(question)
        written = [models.write("sharer", prompt, n) for n in (1, 2, 8, 32)]
        assert [len(tokens) for tokens in written] == [1, 2, 8, 32]
        for shorter, longer in pairwise(written):
            assert longer[: len(shorter)] == shorter


ALL = [
    *(
        Condition("text", control=control, message=Message(codec, tokens))
        for tokens in (1, 3, 24)
        for codec in ("utf8", "utf8+zstd", "lm")
        for control in ("matched", "deranged")
    ),
    *(
        Condition("text", control=control, message=Message(codec, 24, budget_bytes))
        for codec in ("utf8", "utf8+zstd", "lm")
        for control in ("matched", "deranged")
        for budget_bytes in (1, 9)
    ),
    *(Condition(s, control=c) for s in ("letter", "logits") for c in ("matched", "deranged")),
    Condition("calibrated"),
]


@pytest.fixture(scope="module")
def mixed(session: Session) -> tuple[list[Question], list[Question]]:
    """Of both sets, so that lengths differ; few, of which the sharer says more than one thing."""
    both = [(session.asked(name), session.donors(name)) for name in session.dataset_names]
    questions, donors = ([q for part in both for q in part[side][2:4]] for side in (0, 1))
    return questions, donors


SAID = ("", "A", "The answer is B. " * 20, "é東🙂 👩‍🚀 " * 9, "\n\t  B")


@pytest.mark.parametrize("codec", ["utf8", "utf8+zstd", "lm"])
@pytest.mark.parametrize("most", [1, 8, 64, 256])
def test_the_bytes_of_every_text_are_within_its_budget(
    codec: str,
    most: int,
    models: ReferenceModels,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The packet itself, not what a record says of it; what arrives is the text's beginning, and
    what is missing of it is counted as cut."""
    question = asked[0][0]
    for system in ("text", "summary"):
        for text in SAID:
            monkeypatch.setattr(baselines, "written_text", lambda *told, text=text: text)
            sent = baselines.send_text(models, Message(codec, 256, most), question, system)
            assert isinstance(sent.packet, bytes) and len(sent.packet) <= most
            assert text == sent.text + text[len(sent.text) :]
            assert sent.cut_characters == len(text) - len(sent.text)
            coder = models.text_model
            received = (
                coder.decode(coder.context(question), sent.packet)
                if codec == "lm"
                else decode_text(sent.packet, codec)
            )
            assert received == sent.text
            whole = baselines.send_text(models, Message(codec, 256), question, system)
            assert (len(whole.packet) <= most) == (sent.cut_characters == 0)


OTHERS = [RECEIVER, Condition("c2c", Channel("int8"), "matched")]


@pytest.fixture(scope="module")
def defined(
    models: ReferenceModels, mixed: tuple[list[Question], list[Question]]
) -> dict[Condition, list[Record]]:
    """What the definitions say of a sharer that is talkative, question by question. What a model
    writes behind one prompt is the same in every condition, and written once."""
    pairs = list(zip(*mixed, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.pair.sharer.generation_config, "eos_token_id", None)
        patch.setattr(models, "write", cache(models.write))
        one = {c: [baselines.evaluate(models, c, q, d) for q, d in pairs] for c in ALL}
        other = {c: [pipeline.evaluate(models.pair, c, q, d) for q, d in pairs] for c in OTHERS}
    return one | other


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_in_batches_the_records_are_the_definitions(
    batch_size: int | None,
    demo: LoadedPair,
    mixed: tuple[list[Question], list[Question]],
    defined: dict[Condition, list[Record]],
    talkative: None,
) -> None:
    told: list[int] = []
    conditions = [*ALL, *OTHERS]
    found = engine.evaluate(demo, conditions, *mixed, batch_size, told.append)
    assert list(found) == conditions and sum(told) == len(conditions) * len(mixed[0])
    for condition in conditions:
        assert found[condition] == defined[condition], condition.label
    longest = found[Condition("text", control="matched", message=Message("utf8", 24))]
    assert len({record.message for record in longest}) > 1  # the bundled models know few words


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_texts_of_any_length_in_batches(
    batch_size: int | None, precise_pair: LoadedPair, questions: Callable[..., list[Question]]
) -> None:
    prompts = [q.token_ids for q in questions([12, 2, 12, 23, 3, 1, 15, 23, 9])]
    one_by_one, together = (
        ReferenceModels(precise_pair),
        baselines_batched.BatchedModels(Workspace(precise_pair), batch_size),
    )
    for name in ("sharer", "receiver"):
        together.generate(name, prompts, 12)
        written = [one_by_one.write(name, prompt, 12) for prompt in prompts]
        assert [together.write(name, prompt, 12) for prompt in prompts] == written
        assert [together.write(name, p, 5) for p in prompts] == [
            one_by_one.write(name, p, 5) for p in prompts
        ]
        assert len({tuple(tokens) for tokens in written}) > 5
        assert len({len(tokens) for tokens in written}) > 1  # some end by themselves


def test_what_the_sharer_said_of_one_chunk_is_known_to_the_next(
    demo: LoadedPair,
    mixed: tuple[list[Question], list[Question]],
    talkative: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, Prompt]] = []
    coded: list[object] = []
    write, options = baselines_batched.BatchedModels._batch, baselines.logprobs_of
    packets = TextModel._packets

    def written(self: Any, name: str, prompts: Sequence[Prompt], tokens: int) -> Any:
        asked.extend((name, prompt) for prompt in prompts)
        return write(self, name, prompts, tokens)

    def scored(pair: Any, name: str, prompts: Sequence[Prompt], *more: Any) -> Any:
        asked.extend((f"{name} scores", prompt) for prompt in prompts)
        return options(pair, name, prompts, *more)

    def counted(self: Any, context: Any, tokens: Any) -> Any:
        coded.append((context, *tokens))
        return packets(self, context, tokens)

    monkeypatch.setattr(baselines_batched.BatchedModels, "_batch", written)
    monkeypatch.setattr(baselines, "logprobs_of", scored)
    monkeypatch.setattr(TextModel, "_packets", counted)
    conditions = [
        Condition(system, control=control, message=message)
        for system, message in (("letter", None), ("logits", None), ("text", Message("lm", 8)))
        for control in ("matched", "deranged")
    ]
    work, half = Workspace(demo), len(mixed[0]) // 2
    questions = mixed[0][: 2 * half]
    lent = [*questions[half:], *questions[:half]]  # each by one of the other chunk
    whole = engine.evaluate(demo, conditions, questions, lent, work=work)
    once = [(name, prompt) for name, prompt in asked if name.startswith("sharer")]
    asked.clear(), coded.clear()
    models, found = baselines_batched.BatchedModels(work), []
    for part in (slice(half), slice(half, None)):
        both = questions[part], lent[part]
        found.append(engine.evaluate(demo, conditions, *both, work=work, models=models))
    assert {c: [*found[0][c], *found[1][c]] for c in conditions} == whole
    by_sharer = [(name, prompt) for name, prompt in asked if name.startswith("sharer")]
    assert sorted(by_sharer) == sorted(once) and len(set(coded)) == len(coded) > 0
    # More tokens than were written before are not taken for known.
    longer = [Condition("text", control="matched", message=Message("utf8", 24))]
    again = engine.evaluate(demo, longer, questions, lent, work=work, models=models)
    assert again == engine.evaluate(demo, longer, questions, lent, work=work)


def test_decoders_of_one_kind_make_room_for_the_other(
    demo: LoadedPair, mixed: tuple[list[Question], list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(Workspace, "release", lambda self: given_back.append(1))
    work = Workspace(demo)
    for kind, times in (("caches", 0), ("caches", 0), ("competing", 1), ("caches", 2)):
        work.serve(kind)
        assert len(given_back) == times


def test_out_of_memory_is_survived_by_halving(
    models: ReferenceModels,
    mixed: tuple[list[Question], list[Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = engine.evaluate(models.pair, ALL[-5:], *mixed)
    real, most = baselines_batched.BatchedModels._batch, 3

    def tight(
        self: baselines_batched.BatchedModels, name: str, prompts: Sequence[Prompt], tokens: int
    ) -> Any:
        if len(prompts) > most:
            raise torch.OutOfMemoryError("no")
        return real(self, name, prompts, tokens)

    real_options, refused = baselines.logprobs_of, []

    def tight_options(pair: Any, model: Any, prompts: Sequence[Prompt], options: Any) -> Any:
        if len(prompts) > min(most, 1):
            refused.append(len(prompts))
            raise torch.OutOfMemoryError("no")
        return real_options(pair, model, prompts, options)

    monkeypatch.setattr(baselines_batched.BatchedModels, "_batch", tight)
    monkeypatch.setattr(baselines, "logprobs_of", tight_options)
    assert engine.evaluate(models.pair, ALL[-5:], *mixed) == expected
    assert refused and min(refused) > 1
    most = 0
    with pytest.raises(LatentWireError, match="not enough memory for a batch of one"):
        engine.evaluate(models.pair, ALL[-5:], *mixed)


@pytest.mark.parametrize("codec", ["utf8", "utf8+zstd"])
def test_text_is_sent_and_counted(
    codec: str, models: ReferenceModels, asked: list[tuple[Question, Question]]
) -> None:
    for control in ("matched", "deranged"):
        condition = Condition("text", control=control, message=Message(codec, 8))
        for question, donor in asked[:3]:
            record = baselines.evaluate(models, condition, question, donor)
            source = donor if control == "deranged" else question
            written = models.write("sharer", models.prompts.message(source), 8)
            assert record.message == models.pair.tokenizer.decode(written, skip_special_tokens=True)
            assert record.wire_bytes == len(encode_text(record.message, codec))
            assert record.answer == question.example.answer
            assert record.donor_id == (donor.example.id if control == "deranged" else None)


def test_without_a_message_the_receiver_reads_its_plain_prompt(
    demo: LoadedPair,
    models: ReferenceModels,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = models.write
    monkeypatch.setattr(
        models, "write", lambda name, *rest: [] if name == "sharer" else real(name, *rest)
    )
    condition = Condition("text", control="matched", message=Message("utf8+zstd", 8))
    for question, donor in asked:
        alone = pipeline.evaluate(demo, RECEIVER, question, question)
        record = baselines.evaluate(models, condition, question, donor)
        assert record == replace(alone, message="")


def test_a_message_stands_before_the_question_and_changes_nothing_else(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    question = asked[0][0]
    plain = list(question.token_ids)
    assert prompt_with_message_token_ids(demo.tokenizer, question, "") == plain
    told = prompt_with_message_token_ids(demo.tokenizer, question, "north")
    text = demo.tokenizer.decode(told)
    assert "north" in text
    assert len(told) > len(plain) and told[-40:] == plain[-40:]


def test_the_letter_is_the_sharers_answer(
    demo: LoadedPair, models: ReferenceModels, asked: list[tuple[Question, Question]]
) -> None:
    for question, donor in asked:
        for control, source in (("matched", question), ("deranged", donor)):
            condition = Condition("letter", control=control)
            record = baselines.evaluate(models, condition, question, donor)
            theirs = pipeline.evaluate(demo, SHARER, source, source).predicted
            assert theirs is not None
            assert (record.predicted, record.wire_bytes) == (theirs, 1)
            assert record.correct == (theirs == question.example.answer)


def test_without_a_letter_the_receiver_answers_by_itself(
    demo: LoadedPair,
    models: ReferenceModels,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question, donor = asked[0]
    alone = pipeline.evaluate(demo, RECEIVER, question, question)
    real = models.write
    monkeypatch.setattr(
        models, "write", lambda name, *rest: [] if name == "sharer" else real(name, *rest)
    )
    record = baselines.evaluate(models, Condition("letter", control="matched"), question, donor)
    assert record == replace(alone, message="")


def test_logits_are_eight_bytes_and_the_largest_sum_wins(
    models: ReferenceModels, asked: list[tuple[Question, Question]]
) -> None:
    for question, donor in asked:
        record = baselines.evaluate(models, Condition("logits", control="matched"), question, donor)
        both = [
            models.option_logprobs(name, question.token_ids, question.options)
            for name in ("receiver", "sharer")
        ]
        for logprobs in both:
            assert np.exp(logprobs).sum() == pytest.approx(1)
        assert record.wire_bytes == 8
        assert record.predicted == "ABCD"[int((both[0] + both[1].astype("<f2")).argmax())]


def test_a_prior_is_taken_off(
    models: ReferenceModels, asked: list[tuple[Question, Question]]
) -> None:
    prior = baselines.letter_prior(models, asked[0][0])
    assert np.exp(prior).sum() == pytest.approx(1)
    for question, donor in asked:
        record = baselines.evaluate(models, Condition("calibrated"), question, donor)
        own = models.option_logprobs("receiver", question.token_ids, question.options)
        assert record.predicted == "ABCD"[int((own - prior).argmax())]
        assert record.wire_bytes == 0


@pytest.fixture(scope="module")
def of_many(session: Session, asked: list[tuple[Question, Question]]) -> dict[int, Question]:
    """A question by its number of options, from one to as many as the bundled tokenizer spells."""
    words = asked[0][0].example.choices
    examples = [
        replace(asked[0][0].example, id=f"of {count}", choices=tuple((words * 3)[:count]))
        for count in (1, 3, 4, 5, 8, 9)
    ]
    return {
        len(q.example.choices): q
        for q in tokenize(asked[0][0].task, examples, session.files.tokenizer)
    }


CHOOSING = [
    *(Condition("logits", control=c) for c in ("matched", "deranged")),
    Condition("calibrated"),
]


@pytest.mark.parametrize("options", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("lent", [1, 3, 4, 5, 8])
def test_any_number_of_options_and_of_the_other_questions(
    options: int, lent: int, models: ReferenceModels, of_many: dict[int, Question]
) -> None:
    question, donor = of_many[options], of_many[lent]
    own, theirs = (
        {name: models.option_logprobs(name, q.token_ids, q.options) for name in NAMES}
        for q in (question, donor)
    )
    records = [baselines.evaluate(models, c, question, donor) for c in CHOOSING]
    bytes_of = {1: 8, 3: 8, 4: 8, 5: 10, 8: 16}
    assert [record.wire_bytes for record in records] == [bytes_of[options], bytes_of[lent], 0]
    letters = "ABCDEFGH"
    expected = own["receiver"][:options] + own["sharer"][:options].astype("<f2")
    assert records[0].predicted == letters[int(expected.argmax())]
    both = min(options, lent)  # an option of which nothing was sent cannot be chosen
    expected = own["receiver"][:both] + theirs["sharer"][:both].astype("<f2")
    assert records[1].predicted == letters[int(expected.argmax())]
    expected = own["receiver"][:options] - baselines.letter_prior(models, question)[:options]
    assert records[2].predicted == letters[int(expected.argmax())]
    found = engine.evaluate(models.pair, CHOOSING, [question], [donor])
    assert [found[c][0] for c in CHOOSING] == records


def test_packets_of_up_to_four_options_stay_as_they_were() -> None:
    golden = "00b866be00c0003c"  # four float16, little-endian
    sent = np.array([-0.5, -1.6, -2.0, 1.0])
    assert baselines.encode_logprobs(sent).hex() == golden
    fewer = np.array([-0.5, -1.6, -np.inf, -np.inf])
    assert baselines.encode_logprobs(fewer).hex() == "00b866be00fc00fc"
    assert len(baselines.encode_logprobs(np.append(sent, -3.0))) == 10


def test_a_letter_beyond_the_options_is_not_right_and_e_is_no_letter(
    models: ReferenceModels, of_many: dict[int, Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    letter, question, donor = Condition("letter", control="deranged"), of_many[3], of_many[5]
    real = models.write
    for said, sent in (("The correct answer is D", "D"), ("The correct answer is E", "")):
        tokens = models.pair.tokenizer.encode(said, add_special_tokens=False)
        monkeypatch.setattr(
            models,
            "write",
            lambda name, *rest, tokens=tokens: tokens if name == "sharer" else real(name, *rest),
        )
        record = baselines.evaluate(models, letter, question, donor)
        assert (record.message, record.wire_bytes) == (sent, len(sent))
        alone = pipeline.evaluate(models.pair, RECEIVER, question, question)
        assert record.predicted == (sent or alone.predicted)


def test_letters_that_are_no_tokens_leave_those_questions_alone_unanswered(
    models: ReferenceModels, of_many: dict[int, Question]
) -> None:
    with pytest.raises(Unanswerable, match="each letter A to I"):
        stem_and_options(models.pair.tokenizer, of_many[9].options)
    questions, donors = [of_many[4], of_many[9]], [of_many[9], of_many[4]]
    found = engine.evaluate(models.pair, ALL, questions, donors)
    for condition in ALL:
        records = found[condition]
        assert records == [
            baselines.evaluate(models, condition, *both)
            for both in zip(questions, donors, strict=True)
        ]
        lost = {"matched": [1], "none": [1], "deranged": [0, 1]}[condition.control]
        lost = lost if condition in CHOOSING else []
        assert [row for row, record in enumerate(records) if record.unanswered] == lost
        assert all(not records[row].correct and not records[row].wire_bytes for row in lost)


SOME = [
    *(Condition("text", control=c, message=Message("utf8", 3)) for c in ("matched", "deranged")),
    *(Condition("letter", control=c) for c in ("matched", "deranged")),
    *CHOOSING,
]


def both_ways(
    models: ReferenceModels, questions: list[Question], donors: list[Question]
) -> dict[Condition, list[Record]]:
    """The records, once batches are seen to give the definition's."""
    found = engine.evaluate(models.pair, SOME, questions, donors)
    for condition in SOME:
        assert found[condition] == [
            baselines.evaluate(models, condition, *both)
            for both in zip(questions, donors, strict=True)
        ], condition.label
    return found


def embed(weight: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.embedding(ids, weight)


def test_one_prompt_without_numbers_takes_no_other_with_it(
    models: ReferenceModels, asked: list[tuple[Question, Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [question for question, _ in asked[:4]]
    donors = questions[1:] + questions[:1]
    clean = engine.evaluate(models.pair, SOME, questions, donors)
    others = {token for row in (0, 1, 3) for token in questions[row].token_ids}
    broken = min(set(questions[2].token_ids) - others)
    for model in (models.pair.sharer, models.pair.receiver):
        embedding = model.get_input_embeddings()
        weight = embedding.weight.detach().clone()
        weight[broken] = torch.nan  # the same weights serve as output, and stay whole there
        monkeypatch.setattr(embedding, "forward", partial(embed, weight))
    found = both_ways(models, questions, donors)
    for condition in SOME:
        lost = [row for row, record in enumerate(found[condition]) if record.unanswered]
        alone = condition == Condition("letter", control="deranged")  # it needs no receiver
        assert lost == ([1] if alone else [1, 2] if condition.control == "deranged" else [2])
        kept = [row for row in range(4) if row not in lost]
        assert [found[condition][row] for row in kept] == [clean[condition][row] for row in kept]


def test_a_prompt_longer_than_the_context_is_not_read(
    models: ReferenceModels, of_many: dict[int, Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [of_many[8], of_many[3]]
    assert len(questions[0].token_ids) > len(questions[1].token_ids)
    monkeypatch.setattr(
        models.pair.receiver.config, "max_position_embeddings", len(questions[1].token_ids)
    )
    found = both_ways(models, questions, questions[::-1])
    for condition in (*CHOOSING, SOME[0], SOME[1]):
        assert "positions that the receiver was made for" in str(found[condition][0].unanswered)
    assert [record.unanswered for record in found[SOME[2]]] == [None, None]  # it reads no prompt


def test_log_probabilities_keep_infinities_and_refuse_damage() -> None:
    sent = np.array([-0.5, -1.25, -np.inf, -3.0])
    assert (baselines.decode_logprobs(baselines.encode_logprobs(sent)) == sent).all()
    for damaged in (b"\0" * 7, b"\xff" * 8, b"\0" * 6, b"\0" * 11):
        with pytest.raises(LatentWireError):
            baselines.decode_logprobs(damaged)


def test_the_pipeline_does_not_take_them_for_something_else(
    demo: LoadedPair, asked: list[tuple[Question, Question]]
) -> None:
    question, donor = asked[0]
    condition = Condition("letter", control="matched")
    with pytest.raises(LatentWireError, match="in baselines"):
        pipeline.evaluate(demo, condition, question, donor)


def test_options_are_read_where_the_sharer_writes_its_letter(
    demo: LoadedPair, models: ReferenceModels, asked: list[tuple[Question, Question]]
) -> None:
    for question, _ in asked:
        logprobs = models.option_logprobs("sharer", question.token_ids, question.options)
        answered = pipeline.evaluate(demo, SHARER, question, question).predicted
        assert "ABCD"[int(logprobs.argmax())] == answered


def test_under_deranged_another_questions_message_is_sent(
    models: ReferenceModels,
    asked: list[tuple[Question, Question]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The bundled sharer writes nearly the same to every question, so it cannot show this.
    ids = {models.prompts.message(q): q.example.id for both in asked for q in both}
    real = models.write

    def named(name: str, prompt: Prompt, tokens: int) -> list[int]:
        if name == "sharer":
            return list(models.pair.tokenizer.encode(ids[prompt], add_special_tokens=False))
        return real(name, prompt, tokens)

    monkeypatch.setattr(models, "write", named)
    question, donor = asked[0]
    assert question.example.id != donor.example.id
    for control, source in (("matched", question), ("deranged", donor)):
        condition = Condition("text", control=control, message=Message("utf8", 8))
        record = baselines.evaluate(models, condition, question, donor)
        assert record.message == source.example.id
