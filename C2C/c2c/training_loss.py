"""What a fuser is trained on: next-token loss on the answer, and what a message may do at worst.

Interfaces of any kind that torch can differentiate are trained so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, concatenate, from_transformers, to_transformers
from c2c.interface import Interface


@dataclass(frozen=True)
class Batch:
    """Prompts and answers of B conversations.

    `prompt_ids` is [B, n], padded on the left; `answer_ids` is [B, m], padded on the right and
    ending with the stop token. The masks are 1 where a token is real; None: all are. No model and
    no fuser ever reads a pad of a prompt.
    """

    prompt_ids: Tensor
    answer_ids: Tensor
    prompt_mask: Tensor | None = None
    answer_mask: Tensor | None = None


class Through(Protocol):
    """What happens to a message on its way: a codec's loss, another question's in its place."""

    def __call__(self, sent: KVCache, rows: Tensor) -> KVCache:
        """What arrives of the sharer's K and V of the section, [b, Hs, T, Ds], in its place and
        shape. They are of the batch's `rows` (int64 [b]), whose prompts are of one length."""


def unchanged(sent: KVCache, rows: Tensor) -> KVCache:
    """All arrives as it was sent."""
    return sent


def answer_loss(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    interface: Interface,
    batch: Batch,
    kept: int,
    order: str,
    through: Through = unchanged,
) -> Tensor:
    """Mean next-token loss on the answers, with `kept` instruction tokens of the prompt sent.

    The instruction is the prompt without its last token; the first (`front`) or last (`back`)
    `kept` of it are sent, in coordinates of the padded batch, and `through` says what arrives.
    Gradients reach what `through` makes and the interface, never the sharer.

    The mean is over all answer tokens that are real, whichever row they are of: a row weighs as
    many times as its answer has tokens, its stop token included.

    Prompts are read length by length, without their pads: a row of attention that may see nothing
    is NaN in some kernels, and one pad would be enough to spoil every weight.
    """
    losses = []
    for group, rows, section in _parts(batch, kept, order):
        arrives = partial(through, rows=rows)
        found, real = _token_losses(receiver, sharer, interface, group, section, arrives)
        losses.append(found[real])
    return torch.cat(losses).mean()


def guard_loss(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    interface: Interface,
    batch: Batch,
    kept: int,
    order: str,
    tolerance: float,
    through: Through = unchanged,
) -> Tensor:
    """What another question's message does more harm than no message, beyond a tolerance.

    Of each row the mean of max(0, L(another's) - L(none) - tolerance), L being the mean loss (nats
    a token) of its answer's tokens: a one-sided guard (Draft-KV, arXiv 2609.34754). A message that
    helps costs nothing, whoever's it is. A row gets the message of the next one whose prompt is as
    long, so that positions stay; rows without such are left out, and 0 is what none of them gives.

    The arguments are those of `answer_loss`; gradients reach the interface alone.
    """
    harms = []
    for group, rows, section in _parts(batch, kept, order):
        if len(rows) < 2:
            continue
        nexts = rows.roll(-1)
        lend = partial(_lent, through=through, rows=nexts)
        lent = _mean_by_row(receiver, sharer, interface, group, section, lend)
        with torch.no_grad():
            alone = _mean_by_row(receiver, sharer, interface, group, range(0), _as_it_is)
        harms.append(F.relu(lent - alone - tolerance))
    if not harms:
        return torch.zeros((), device=batch.prompt_ids.device)
    return torch.cat(harms).mean()


def _lent(sent: KVCache, through: Through, rows: Tensor) -> KVCache:
    """What arrives when each row gets the next one's message."""
    return through(sent.map(lambda tensor: tensor.roll(-1, dims=0)), rows=rows)


def _as_it_is(sent: KVCache) -> KVCache:
    return sent


def _mean_by_row(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    interface: Interface,
    batch: Batch,
    section: range,
    through: Callable[[KVCache], KVCache],
) -> Tensor:
    """The mean loss of each row's answer tokens, [b]."""
    losses, real = _token_losses(receiver, sharer, interface, batch, section, through)
    return (losses * real).sum(1) / real.sum(1)


def _parts(batch: Batch, kept: int, order: str) -> list[tuple[Batch, Tensor, range]]:
    """Rows of one prompt length each, which they are, and what of their prompts goes."""
    width = batch.prompt_ids.shape[1]
    start = 0 if order == "front" else width - 1 - kept
    return [
        (group, rows, range(max(0, start - pads), max(0, start + kept - pads)))
        for group, rows, pads in _by_length(batch)
    ]


def _by_length(batch: Batch) -> list[tuple[Batch, Tensor, int]]:
    """The batch's rows by prompt length, without the pads of prompts, which rows these are (int64
    [b]), and how many pads there were."""
    if batch.prompt_mask is None:
        return [(batch, torch.arange(len(batch.prompt_ids), device=batch.prompt_ids.device), 0)]
    width = batch.prompt_ids.shape[1]
    lengths = batch.prompt_mask.sum(1)
    groups = []
    for length in sorted(set(lengths.tolist())):
        (rows,) = torch.where(lengths == length)
        mask = None if batch.answer_mask is None else batch.answer_mask[rows]
        prompts = batch.prompt_ids[rows][:, width - length :]
        group = Batch(prompts, batch.answer_ids[rows], None, mask)
        groups.append((group, rows, width - length))
    return groups


def _token_losses(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    interface: Interface,
    batch: Batch,
    section: range,
    through: Callable[[KVCache], KVCache],
) -> tuple[Tensor, Tensor]:
    """Losses of the answers' tokens with the prompt's tokens of `section` sent, and which of these
    tokens are real: both [b, m]. Prompts are of one length."""
    start, stop, cache = section.start, section.stop, None
    if section:
        with torch.no_grad():
            sent = _prefill(sharer, batch, stop).section(start, stop)
        received = through(sent)
        before = interface.prepare(received)
        if before is not None:
            cache, stop = to_transformers(before), 0
        else:
            with torch.no_grad():
                own = _prefill(receiver, batch, stop)
            prefix = interface.merge(received, own.section(start, stop))
            if start:
                prefix = concatenate([own.section(0, start), prefix], dim=2)
            cache = to_transformers(prefix)
    else:
        stop = 0
    output = receiver(
        torch.cat([batch.prompt_ids[:, stop:], batch.answer_ids], dim=1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=batch.answer_ids.shape[1] + 1,
    )
    mask = batch.answer_mask
    real = torch.ones_like(batch.answer_ids).bool() if mask is None else mask.bool()
    # Pads stand behind an answer, where no real token sees them; nor does the loss.
    found = F.cross_entropy(
        output.logits[:, :-1].float()[real], batch.answer_ids[real], reduction="none"
    )
    return found.new_zeros(real.shape).masked_scatter(real, found), real


def _prefill(model: PreTrainedModel, batch: Batch, tokens: int) -> KVCache:
    """The model's own cache of the first `tokens` prompt tokens."""
    cache = DynamicCache()
    model(batch.prompt_ids[:, :tokens], past_key_values=cache, use_cache=True, logits_to_keep=1)
    return from_transformers(cache)
