"""What a fuser is trained on: next-token loss on the answer, and what a message may do at worst.

Interfaces of any kind that torch can differentiate are trained so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, concatenate, from_transformers, to_transformers
from c2c.interface import Interface

# Attention whose gradients can be trusted. cuDNN's, which PyTorch prefers on Hopper, gives NaN with
# a mask where all scores of a query are below -89 and keys are 64 past a multiple of 128: heads of
# Qwen2.5 are so (pytorch issue 196678).
DIFFERENTIABLE = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Batch:
    """Prompts and answers of B conversations.

    `prompt_ids` is [B, n], padded on the left; `answer_ids` is [B, m], padded on the right and
    ending with the stop token. The masks are 1 where a token is real; None: all are. They stay on
    the host, since shapes follow from them and a GPU that says a shape has to be waited for. No
    model and no fuser ever reads a pad of a prompt.
    """

    prompt_ids: Tensor
    answer_ids: Tensor
    prompt_mask: Tensor | None = None
    answer_mask: Tensor | None = None


class Through(Protocol):
    """What happens to a message on its way: a codec's loss, another question's in its place."""

    def __call__(self, sent: KVCache, rows: Tensor) -> KVCache:
        """What arrives of the sharer's K and V of the section, [b, Hs, T, Ds], in its place and
        shape. They are of the batch's `rows` (int64 [b], on the host), whose prompts are of one
        length."""


def unchanged(sent: KVCache, rows: Tensor) -> KVCache:
    """All arrives as it was sent."""
    return sent


@dataclass(eq=False)
class Reading:
    """Rows of a batch whose prompts are of one length, and what both frozen models have of them,
    each read once, when it is first asked for, whatever losses follow."""

    receiver: PreTrainedModel
    sharer: PreTrainedModel
    batch: Batch  # these rows, without the pads of prompts
    rows: Tensor  # int64 [b], on the host: which of the whole batch's rows they are
    section: range  # the prompt's tokens that are sent

    @cached_property
    def sent(self) -> KVCache:
        """The sharer's cache of the section."""
        read = _prefill(self.sharer, self.batch, self.section.stop)
        return read.section(self.section.start, self.section.stop)

    @cached_property
    def own(self) -> KVCache:
        """The receiver's cache of all tokens up to the section's end."""
        return _prefill(self.receiver, self.batch, self.section.stop)


def readings_of(
    receiver: PreTrainedModel, sharer: PreTrainedModel, batch: Batch, kept: int, order: str
) -> list[Reading]:
    """A batch by prompt length, of which `kept` instruction tokens are sent.

    The instruction is the prompt without its last token; the first (`front`) or last (`back`)
    `kept` of it are sent, in coordinates of the padded batch.

    Prompts are read length by length, without their pads: a row of attention that may see nothing
    is NaN in some kernels, and one pad would be enough to spoil every weight.
    """
    width = batch.prompt_ids.shape[1]
    start = 0 if order == "front" else width - 1 - kept
    readings = []
    for group, rows, pads in _by_length(batch):
        section = range(max(0, start - pads), max(0, start + kept - pads))
        readings.append(Reading(receiver, sharer, group, rows, section))
    return readings


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
        received = through(reading.sent, rows=reading.rows) if reading.section else None
        losses.append(_token_losses(reading, interface, received))
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
    received = None
    if reading.section:
        lent = reading.sent.map(lambda tensor: tensor.roll(-1, dims=0))
        received = through(lent, rows=reading.rows.roll(-1))
    found = _mean_by_row(reading.batch, _token_losses(reading, interface, received))
    with torch.no_grad():
        alone = _mean_by_row(reading.batch, _token_losses(reading, interface, None))
    return found - alone


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
        groups.append((group, rows, width - length))
    return groups


def _token_losses(reading: Reading, interface: Interface, received: KVCache | None) -> Tensor:
    """Losses of the answers' real tokens, row after row, where `received` is what arrives (None: no
    message)."""
    batch, start, stop = reading.batch, reading.section.start, reading.section.stop
    before = interface.prepare(received) if received is not None else None
    if before is not None:
        cache, stop = to_transformers(before), 0
    elif received is not None:
        prefix = interface.merge(received, reading.own.section(start, stop))
        if start:
            prefix = concatenate([reading.own.section(0, start), prefix], dim=2)
        cache = to_transformers(prefix)
    elif reading.section:
        cache = to_transformers(reading.own)
    else:
        cache, stop = None, 0
    with sdpa_kernel(DIFFERENTIABLE):
        output = reading.receiver(
            torch.cat([batch.prompt_ids[:, stop:], batch.answer_ids], dim=1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=batch.answer_ids.shape[1] + 1,
        )
    logits, answers = output.logits[:, :-1].float().flatten(0, 1), batch.answer_ids.flatten()
    if batch.answer_mask is not None:
        # Pads stand behind an answer, where no real token sees them; nor does the loss.
        real = batch.answer_mask.flatten().nonzero().squeeze(1)
        real = real.to(logits.device, non_blocking=True)
        logits, answers = logits[real], answers[real]
    return F.cross_entropy(logits, answers, reduction="none")


@torch.no_grad()
def _prefill(model: PreTrainedModel, batch: Batch, tokens: int) -> KVCache:
    """The model's own cache of the first `tokens` prompt tokens."""
    cache = DynamicCache()
    model.base_model(batch.prompt_ids[:, :tokens], past_key_values=cache, use_cache=True)
    return from_transformers(cache)
