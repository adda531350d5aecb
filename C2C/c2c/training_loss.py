"""What a fuser is trained on: next-token loss on the answer, and what a message may do at worst.

Interfaces of any kind that torch can differentiate are trained so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import sdpa_kernel
from transformers import PreTrainedModel

from c2c.aligned_reading import aligned_readings
from c2c.cache import KVCache
from c2c.interface import Interface
from c2c.sections import Runs
from c2c.training_readings import DIFFERENTIABLE, Batch, MessageReading, Reading


class Through(Protocol):
    """What happens to a message on its way: a codec's loss, another question's in its place."""

    def __call__(self, sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
        """What arrives of the sharer's K and V, [b, Hs, T, Ds], in its place and shape. They are of
        the batch's `rows` (int64 [b], on the host), of each the tokens in its runs; shorter rows
        repeat their last one."""


def unchanged(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
    """All arrives as it was sent."""
    return sent


def readings_of(
    receiver: PreTrainedModel, sharer: PreTrainedModel, batch: Batch, kept: int, order: str
) -> Sequence[Reading]:
    """A batch by prompt length, of which `kept` instruction tokens are sent.

    The instruction is the prompt without its last token; the first (`front`) or last (`back`)
    `kept` of it are sent, in coordinates of the padded batch. Of messages it is all of the text,
    and of aligned prompts what can be sent of it; each row sends the share that `kept` is of the
    longest.

    Prompts are read length by length, without their pads: a row of attention that may see nothing
    is NaN in some kernels, and one pad would be enough to spoil every weight.
    """
    if batch.aligned:
        return aligned_readings(receiver, sharer, batch, kept, order)
    if batch.message_ids is not None:
        return [
            _of_messages(receiver, sharer, group, rows, kept / batch.message_ids.shape[1], order)
            for group, rows, _ in _by_length(batch)
        ]
    width = batch.prompt_ids.shape[1]
    start = 0 if order == "front" else width - 1 - kept
    readings = []
    for group, rows, pads in _by_length(batch):
        section = range(max(0, start - pads), max(0, start + kept - pads))
        readings.append(Reading(receiver, sharer, group, rows, section))
    return readings


def _of_messages(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    group: Batch,
    rows: Tensor,
    share: float,
    order: str,
) -> MessageReading:
    """The reading of rows that each send a share of their messages, one token at least, from their
    `front` or `back`; nothing where the share is 0."""
    runs = []
    for tokens in group.message_tokens:
        count = max(1, int(tokens * share))
        runs.append(range(count) if order == "front" else range(tokens - count, tokens))
    section = range(int(share > 0))
    return MessageReading(receiver, sharer, group, rows, section, runs, list(group.message_tokens))


def answer_loss(
    readings: Sequence[Reading], interface: Interface, through: Through = unchanged
) -> Tensor:
    """Mean next-token loss on the answers, with the readings' sections sent.

    `through` says what arrives. Gradients reach what it makes and the interface, never the sharer.

    The mean is over all answer tokens that are real, whichever row they are of: a row weighs as
    many times as its answer has tokens, its stop token included.
    """
    losses = []
    for reading in readings:
        losses.append(_token_losses(reading, interface, _arrives(reading, through)))
    return torch.cat(losses).mean()


def guard_loss(
    readings: Sequence[Reading],
    interface: Interface,
    tolerance: float,
    through: Through = unchanged,
) -> Tensor:
    """What another question's message does more harm than no message, beyond a tolerance.

    Of each row the mean of max(0, L(another's) - L(none) - tolerance), L being the mean loss (nats
    a token) of its answer's tokens: a one-sided guard (Draft-KV, arXiv 2609.34754). A message that
    helps costs nothing, whoever's it is. A row gets the message of the next one whose prompt is as
    long, so that positions stay; rows without such are left out, and 0 is what none of them gives.

    Gradients reach the interface alone.
    """
    harms = [
        F.relu(_harm(reading, interface, through) - tolerance)
        for reading in readings
        if len(reading.rows) > 1
    ]
    if not harms:
        return torch.zeros((), device=readings[0].batch.answer_ids.device)
    return torch.cat(harms).mean()


def _harm(reading: Reading, interface: Interface, through: Through) -> Tensor:
    """L(the next row's message) - L(no message) of each row, [b]."""
    lent = reading.lent() if reading.section else reading
    losses = _token_losses(lent, interface, _arrives(lent, through))
    found = _mean_by_row(reading.batch, losses)
    with torch.no_grad():
        alone = _mean_by_row(reading.batch, _token_losses(reading, interface, None))
    return found - alone


def _arrives(reading: Reading, through: Through) -> KVCache | None:
    return through(reading.sent, reading.rows, reading.runs) if reading.section else None


def _mean_by_row(batch: Batch, losses: Tensor) -> Tensor:
    """The mean of each row's real tokens, [b], of whose losses there is one after the other."""
    if batch.answer_mask is None:
        real = torch.ones_like(batch.answer_ids).bool()
    else:
        real = batch.answer_mask.bool().to(losses.device, non_blocking=True)
    return losses.new_zeros(real.shape).masked_scatter(real, losses).sum(1) / real.sum(1)


def _by_length(batch: Batch) -> list[tuple[Batch, Tensor, int]]:
    """The batch's rows by prompt length, without the pads of prompts, which rows these are (int64
    [b], on the host), and how many pads there were."""
    if batch.prompt_mask is None:
        return [(batch, torch.arange(len(batch.prompt_ids)), 0)]
    width = batch.prompt_ids.shape[1]
    lengths = batch.prompt_mask.sum(1)
    groups = []
    for length in sorted(set(lengths.tolist())):
        (rows,) = torch.where(lengths == length)
        mask = None if batch.answer_mask is None else batch.answer_mask[rows]
        places = rows.to(batch.prompt_ids.device, non_blocking=True)
        prompts = batch.prompt_ids[places][:, width - length :]
        group = Batch(prompts, batch.answer_ids[places], None, mask)
        if batch.message_ids is not None:
            tokens = [batch.message_tokens[row] for row in rows.tolist()]
            sharers = batch.message_ids[places, : max(tokens)]
            group = replace(group, message_ids=sharers, message_tokens=tokens)
        groups.append((group, rows, width - length))
    return groups


def answer_logits(reading: Reading, interface: Interface, received: KVCache | None) -> Tensor:
    """The receiver's logits, float32 [n, vocabulary], for each of the answers' n real tokens, row
    after row, where `received` is what arrives (None: no message)."""
    batch, ahead = reading.batch, reading.ahead(interface, received)
    with sdpa_kernel(DIFFERENTIABLE):
        output = reading.receiver(
            torch.cat([batch.prompt_ids[:, ahead.read :], batch.answer_ids], dim=1),
            past_key_values=ahead.cache,
            use_cache=True,
            logits_to_keep=batch.answer_ids.shape[1] + 1,
            **ahead.options,
        )
    return _real(batch, output.logits[:, :-1].float().flatten(0, 1))


def _token_losses(reading: Reading, interface: Interface, received: KVCache | None) -> Tensor:
    """Losses of the answers' real tokens, as `answer_logits` has them."""
    logits = answer_logits(reading, interface, received)
    answers = _real(reading.batch, reading.batch.answer_ids.flatten())
    return F.cross_entropy(logits, answers, reduction="none")


def _real(batch: Batch, of_tokens: Tensor) -> Tensor:
    """Of what there is for each of the answers' tokens, row after row, that of real ones: pads
    stand behind an answer, where no real token sees them; nor does the loss."""
    if batch.answer_mask is None:
        return of_tokens
    real = batch.answer_mask.flatten().nonzero().squeeze(1)
    return of_tokens[real.to(of_tokens.device, non_blocking=True)]
