"""Training with a tokenizer at each end: the loss is that of what evaluation does."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from agreement import prompts_read_once
from random_questions import SHORT
from tiny import make_fuser, make_questions
from torch import Tensor
from torch.nn import functional as F
from toy_training import SETTINGS, SIZE, same
from two_tokenizers import pair_of_two

from c2c import receiver
from c2c.fuser import Fuser
from c2c.paired_prompts import ALIGNMENTS, OFFSETS, PairedPrompts, paired_prompts
from c2c.processes import Processes
from c2c.training import train_fuser
from c2c.training_batches import TokenBatches
from c2c.training_loss import answer_loss, guard_loss, readings_of
from c2c.training_readings import Batch
from latentwire.evaluation import pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question, tokenize
from latentwire.training.channel import codecs_in_the_loop

EVERY = [
    pytest.param(first, alignment, id=f"{alignment}, {'first' if first else 'second'} receives")
    for first in (True, False)
    for alignment in ALIGNMENTS
]
TURNS = ("red, green", "blue? é🙂", "what", "the color black")
MORE = ("what, theory", "red of red", "a greenhouse")


@pytest.fixture(scope="module", autouse=True)
def _prompts_read_once() -> Iterator[None]:
    with prompts_read_once():
        yield


@cache
def two(first_receives: bool) -> LoadedPair:
    """In float64: see `precise_pair`."""
    return pair_of_two(torch.float64, first_receives)


def asked_of(pair: LoadedPair, alignment: str) -> list[Question]:
    """Questions of several lengths, some of one; and conversations, some of several messages."""
    examples = [q.example for q in make_questions(pair.tokenizer, [1, 5, 1, 5, 2])]
    both = pair.tokenizer, pair.sharer_tokenizer
    asked = [question.under(alignment) for question in tokenize(SHORT, examples, *both)]
    said = [[TURNS[(turn + turns) % 4] for turn in range(turns)] for turns in (3, 4, 3)]
    for texts in [*said, *([text] for text in MORE)]:
        messages = [
            {"role": ("user", "assistant")[turn % 2], "content": text}
            for turn, text in enumerate(texts)
        ]
        prompts = replace(asked[0].prompts, alignment=paired_prompts(*both, alignment, messages))
        asked.append(replace(asked[0], prompts=prompts))
    return asked


def aligned(question: Question) -> PairedPrompts:
    assert question.prompts.alignment
    return question.prompts.alignment


def answer_to(number: int) -> list[int]:
    return [9 + 7 * number + i for i in range(1 + number % 3)]


def batch_of(asked: Sequence[Question], pad: int = 3) -> Batch:
    """All of them, in order."""
    prompts, n = [aligned(question) for question in asked], len(asked)
    width, most = max(len(p.receiver_ids) for p in prompts), max(len(p.sharer_ids) for p in prompts)
    ids, mask = torch.full((n, width), pad), torch.zeros(n, width, dtype=torch.long)
    answers, real = torch.full((n, 3), pad), torch.zeros(n, 3, dtype=torch.long)
    messages = torch.full((n, most), pad)
    for row, prompt in enumerate(prompts):
        answer, before = answer_to(row), width - len(prompt.receiver_ids)
        ids[row, before:], mask[row, before:] = torch.tensor(prompt.receiver_ids), 1
        answers[row, : len(answer)], real[row, : len(answer)] = torch.tensor(answer), 1
        messages[row, : len(prompt.sharer_ids)] = torch.tensor(prompt.sharer_ids)
    counts = [len(prompt.sharer_ids) for prompt in prompts]
    return Batch(ids, answers, mask, real, messages, counts, prompts)


def batch_of_two(
    first_receives: bool, alignment: str
) -> tuple[LoadedPair, list[Question], Batch, int]:
    """A pair, what is asked of it, that as one batch, and the sharer's longest prompt in tokens."""
    pair = two(first_receives)
    asked = asked_of(pair, alignment)
    batch = batch_of(asked)
    assert batch.message_ids is not None
    return pair, asked, batch, batch.message_ids.shape[1]


def evaluated(
    pair: LoadedPair, channel: Channel | None, question: Question, donor: Question, number: int
) -> Tensor:
    """The losses of the tokens of answer `number` behind what evaluation makes of a question with
    the donor's message; None: no message."""
    control = "matched" if donor is question else "deranged"
    packet = pipeline.send(pair, channel, question, donor, control) if channel else b""
    assert bool(packet) == bool(channel)
    prefilled = pipeline.prefill(pair, question, packet)
    logits, losses = prefilled.logits, []
    for token in answer_to(number):
        losses.append(F.cross_entropy(logits.float(), torch.tensor([token])))
        with torch.inference_mode():
            step = torch.tensor([[token]])
            logits = receiver.extend(pair.receiver, prefilled.cache, step, seen=prefilled.seen)
    return torch.stack(losses)


@cache
def alone(first_receives: bool, alignment: str) -> list[Tensor]:
    """The same of each question without a message."""
    pair, asked, *_ = batch_of_two(first_receives, alignment)
    return [evaluated(pair, None, each, each, number) for number, each in enumerate(asked)]


@pytest.mark.parametrize(("first_receives", "alignment"), EVERY)
@pytest.mark.parametrize(
    ("share", "order", "codec"),
    [(1.0, "front", "fp32"), (0.4, "front", "int4"), (0.6, "back", "int8"), (0.01, "back", "fp32")],
)
def test_the_loss_is_that_of_what_evaluation_does(
    first_receives: bool, alignment: str, share: float, order: str, codec: str
) -> None:
    pair, asked, batch, width = batch_of_two(first_receives, alignment)
    kept = max(1, round(share * width))
    through = codecs_in_the_loop(pair.interface, [codec], 1)(0)  # type: ignore[arg-type]

    def loss(kept: int) -> float:
        readings = readings_of(pair.receiver, pair.sharer, batch, kept, order)
        assert sorted(r for each in readings for r in each.rows.tolist()) == [*range(len(asked))]
        assert 1 < len(readings) < len(asked)
        with torch.no_grad():
            return float(answer_loss(readings, pair.interface, through))

    losses = []
    for number, question in enumerate(asked):
        ratio = max(kept / width, 1.01 / len(aligned(question).sendable))  # a token at least
        channel = Channel(codec, min(1.0, ratio), order)
        losses.append(evaluated(pair, channel, question, question, number))
    found, nothing = loss(kept), loss(0)
    assert found == pytest.approx(float(torch.cat(losses).mean()), abs=3e-6)
    lone = torch.cat(alone(first_receives, alignment))
    assert nothing == pytest.approx(float(lone.mean()), abs=3e-6)
    assert abs(nothing - found) > 5e-5


@pytest.mark.parametrize(("first_receives", "alignment"), EVERY)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_guard_lends_as_evaluation_deranges(
    first_receives: bool, alignment: str, share: float
) -> None:
    pair, asked, batch, width = batch_of_two(first_receives, alignment)
    kept = round(share * width)
    readings = readings_of(pair.receiver, pair.sharer, batch, kept, "front")
    harms, other_counts = [], 0
    for rows in (reading.rows.tolist() for reading in readings if len(reading.rows) > 1):
        for row, lender in zip(rows, [*rows[1:], rows[0]], strict=True):
            channel = Channel("fp32", max(kept / width, 1.01 / len(aligned(asked[row]).sendable)))
            lent = evaluated(pair, channel, asked[row], asked[lender], row)
            harms.append(float(lent.mean() - alone(first_receives, alignment)[row].mean()))
            counts = {len(aligned(asked[n]).sendable) for n in (row, lender)}
            other_counts += len(counts) - 1
    assert harms and (alignment != OFFSETS or share < 1 or other_counts)
    with torch.no_grad():
        found = guard_loss(readings, pair.interface, -9.0)
    expected = sum(max(0.0, harm + 9.0) for harm in harms) / len(harms)
    assert float(found) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(
    ("first_receives", "alignment", "dtype"),
    [
        *((first, alignment, torch.float32) for first in (True, False) for alignment in ALIGNMENTS),
        # In 16 bits, which a CPU is slow at: padding at either end, and none.
        (True, "first", torch.bfloat16),
        (False, "longest", torch.bfloat16),
        (False, OFFSETS, torch.bfloat16),
    ],
)
def test_gradients_reach_the_fuser_alone_and_no_padding_counts(
    first_receives: bool, alignment: str, dtype: torch.dtype
) -> None:
    pair = pair_of_two(dtype, first_receives)
    asked = asked_of(pair, alignment)

    def replaced(question: Question, other: int) -> Question:
        """With other padding, but at the receiver's end, from which the answer starts."""
        found = aligned(question)
        ids = list(found.receiver_ids), list(found.sharer_ids)
        for each, pads in zip(ids, (found.receiver_pads, found.sharer_pads), strict=True):
            for place in {*pads} - {len(each) - 1}:
                each[place] = other
        changed = replace(found, receiver_ids=tuple(ids[0]), sharer_ids=tuple(ids[1]))
        return replace(question, prompts=replace(question.prompts, alignment=changed))

    def loss_and_gradients(batch: Batch) -> list[Tensor]:
        fuser = make_fuser(pair.sharer, pair.receiver, size=SIZE, gates="open")
        fuser.requires_grad_(True)
        readings = readings_of(pair.receiver, pair.sharer, batch, 9, "front")
        loss = answer_loss(readings, fuser) + guard_loss(readings, fuser, -9.0)
        loss.backward()
        for reading in readings:
            for read in (reading.sent, reading.own):
                assert not any(x.requires_grad for x in (*read.keys, *read.values))
        return [loss.detach(), *(p.grad for p in fuser.parameters() if p.grad is not None)]

    plain = loss_and_gradients(batch_of(asked))
    assert len(plain) > 1 and all(bool(tensor.isfinite().all()) for tensor in plain)
    assert all(float(tensor.norm()) > 0 for tensor in plain)
    for model in (pair.receiver, pair.sharer):
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    others = [replaced(question, 400) for question in asked]
    assert (others != asked) == (alignment != OFFSETS)
    for one, other in zip(plain, loss_and_gradients(batch_of(others, pad=200)), strict=True):
        assert torch.equal(one, other)


def batches_of(pair: LoadedPair, alignment: str) -> TokenBatches:
    asked = asked_of(pair, alignment)
    prompts = [aligned(question) for question in asked]
    pairs = [(prompt.receiver_ids, answer_to(row)) for row, prompt in enumerate(prompts)]
    sharers = [prompt.sharer_ids for prompt in prompts]
    return TokenBatches(pairs, 3, 4, messages=sharers, aligned=prompts)


def test_batches_hold_both_prompts_and_what_belongs_together() -> None:
    batches = batches_of(two(True), OFFSETS)
    for number in range(3):
        batch, rows = batches(number), batches.rows(number)
        assert [*batch.aligned] == [batches.aligned[row] for row in rows]
        for row, prompt in enumerate(batch.aligned):
            ids = batch.prompt_ids[row].tolist()[-len(prompt.receiver_ids) :]
            assert ids == [*prompt.receiver_ids]
            assert batch.message_ids is not None
            theirs = batch.message_ids[row].tolist()
            own = len(prompt.sharer_ids)
            assert theirs[:own] == [*prompt.sharer_ids]
            # Filled up with what the sharer knows.
            assert {*theirs[own:]} <= {i for each in batch.aligned for i in each.sharer_ids}


@pytest.mark.slow
@pytest.mark.parametrize("alignment", ["longest", OFFSETS])
def test_a_training_that_is_ended_goes_on_to_the_same_weights(
    alignment: str, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=4, checkpoint_every=1)

    def trained(folder: Path | None, end: int = 0) -> Fuser:
        pair = pair_of_two(torch.float32, False)
        fuser = make_fuser(pair.sharer, pair.receiver, size=SIZE)
        channels = codecs_in_the_loop(fuser, ["int4", "int8"], 1)

        def on_step(step: int, metrics: object) -> None:
            if step == end:
                raise KeyboardInterrupt

        batches = batches_of(pair, alignment)
        return train_fuser(
            pair.receiver, pair.sharer, fuser, batches, settings, folder, on_step, channels
        )

    for end in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, end)
    assert same(trained(tmp_path), trained(None))


def test_shares_of_a_batch_weigh_as_many_rows_as_are_lent_a_message() -> None:
    pair = two(False)
    batch = batch_of(asked_of(pair, OFFSETS))
    for kept in (4, 12):
        shares = [Processes(rank, 2).share(batch, kept, "back") for rank in range(2)]
        lent = [
            sum(
                len(reading.rows)
                for reading in readings_of(pair.receiver, pair.sharer, s.batch, kept, "back")
                if len(reading.rows) > 1
            )
            for s in shares
        ]
        assert sum(lent)
        assert [float(s.of_lent) for s in shares] == pytest.approx([n / sum(lent) for n in lent])
        assert [p for s in shares for p in s.batch.aligned] == [*batch.aligned]
