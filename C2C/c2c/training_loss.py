"""What a fuser is trained on: next-token loss on the answer, and what a message may do at worst.

Interfaces of any kind that torch can differentiate are trained so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

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

    For an interface that inserts, the sharer reads messages of its own: `message_ids` [B, k],
    padded on the right, row b with `message_tokens[b]` real ones. None: it reads the prompts.
    """

    prompt_ids: Tensor
    answer_ids: Tensor
    prompt_mask: Tensor | None = None
    answer_mask: Tensor | None = None
    message_ids: Tensor | None = None
    message_tokens: Sequence[int] = ()


class Through(Protocol):
    """What happens to a message on its way: a codec's loss, another question's in its place."""

    def __call__(self, sent: KVCache, rows: Tensor, runs: Sequence[range]) -> KVCache:
        """What arrives of the sharer's K and V, [b, Hs, T, Ds], in its place and shape. They are of
        the batch's `rows` (int64 [b], on the host), of each the tokens in its run; shorter rows
        repeat their last one."""


def unchanged(sent: KVCache, rows: Tensor, runs: Sequence[range]) -> KVCache:
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
    section: range  # the prompt's tokens that are sent; empty where nothing is

    @property
    def runs(self) -> Sequence[range]:
        """What is sent of each row."""
        return [self.section] * len(self.rows)

    @cached_property
    def sent(self) -> KVCache:
        """The sharer's cache of the section."""
        read = prefill(self.sharer, self.batch.prompt_ids[:, : self.section.stop])
        return read.section(self.section.start, self.section.stop)

    @cached_property
    def own(self) -> KVCache:
        """The receiver's cache of all tokens up to the section's end."""
        return prefill(self.receiver, self.batch.prompt_ids[:, : self.section.stop])

    def read(self) -> None:
        """Ask the models for what an interface needs, before it does."""
        if self.section:
            _ = self.sent, self.own

    def lent(self) -> "Reading":
        """The same prompts, each with what the next row's message has; nothing is read again."""
        other = replace(self, rows=self.rows.roll(-1))
        vars(other)["sent"] = self.sent.map(lambda tensor: tensor.roll(-1, dims=0))
        vars(other)["own"] = self.own
        return other

    def ahead(self, interface: Interface, received: KVCache | None) -> "Ahead":
        """What the receiver has where `received` is what arrives; None: no message."""
        start, stop = self.section.start, self.section.stop
        if received is None:
            return Ahead(to_transformers(self.own), stop) if self.section else Ahead(None, 0)
        prefix = interface.merge(received, self.own.section(start, stop))
        if start:
            prefix = concatenate([self.own.section(0, start), prefix], dim=2)
        return Ahead(to_transformers(prefix), stop)


@dataclass(eq=False)
class MessageReading(Reading):
    """Rows whose prompts are of one length, behind messages of any, which the sharer alone reads.

    It reads them filled up behind their ends, where no real token looks; in the receiver's cache a
    mask hides what fills up, and each prompt stands behind the whole of its message's text.
    """

    sent_runs: Sequence[range]
    text_tokens: Sequence[int]

    @property
    def runs(self) -> Sequence[range]:
        """See `Reading`."""
        return self.sent_runs

    @cached_property
    def positions(self) -> Tensor:
        """Of what is sent, int64 [b, T]; shorter rows repeat their last one."""
        most = max(map(len, self.runs))
        filled = [[*run, *[run[-1]] * (most - len(run))] for run in self.runs]
        return torch.tensor(filled, device=self.batch.prompt_ids.device)

    @cached_property
    def sent(self) -> KVCache:
        """The sharer's cache of the runs."""
        assert self.batch.message_ids is not None
        read = prefill(self.sharer, self.batch.message_ids[:, : max(r.stop for r in self.runs)])
        if all(run == range(read.tokens) for run in self.runs):
            return read
        index = self.positions[:, None, :, None]
        return read.map(lambda x: x.gather(2, index.expand(-1, x.shape[1], -1, x.shape[3])))

    def read(self) -> None:
        """See `Reading`."""
        if self.section:
            _ = self.sent, self.positions

    def lent(self) -> Reading:
        """See `Reading`."""
        runs, texts = ([*x[1:], *x[:1]] for x in (self.sent_runs, self.text_tokens))
        other = replace(self, rows=self.rows.roll(-1), sent_runs=runs, text_tokens=texts)
        vars(other)["sent"] = self.sent.map(lambda tensor: tensor.roll(-1, dims=0))
        return other

    def ahead(self, interface: Interface, received: KVCache | None) -> "Ahead":
        """See `Reading`."""
        if received is None:
            return Ahead(None, 0)
        front, device = interface.prepare(received, self.positions), self.positions.device
        assert front is not None
        tokens = self.batch.prompt_ids.shape[1] + self.batch.answer_ids.shape[1]
        starts = torch.tensor(self.text_tokens, device=device)[:, None]
        options = {"position_ids": starts + torch.arange(tokens, device=device)}
        counts = torch.tensor([len(run) for run in self.runs])[:, None]
        if bool((counts < front.tokens).any()):
            seen = torch.arange(front.tokens) < counts
            mask = torch.cat([seen, seen.new_ones(len(seen), tokens)], dim=1)
            options["attention_mask"] = mask.long().to(device)
        return Ahead(to_transformers(front), 0, options)


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


class Ahead(NamedTuple):
    """What stands in the receiver's cache, and the prompt's tokens that it need not read."""

    cache: DynamicCache | None
    read: int
    options: Mapping[str, Tensor] = {}  # for the model, where a cache does not say all


def readings_of(
    receiver: PreTrainedModel, sharer: PreTrainedModel, batch: Batch, kept: int, order: str
) -> Sequence[Reading]:
    """A batch by prompt length, of which `kept` instruction tokens are sent.

    The instruction is the prompt without its last token; the first (`front`) or last (`back`)
    `kept` of it are sent, in coordinates of the padded batch. Of messages it is all of the text,
    and each row sends the share that `kept` is of the longest.

    Prompts are read length by length, without their pads: a row of attention that may see nothing
    is NaN in some kernels, and one pad would be enough to spoil every weight.
    """
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


def _token_losses(reading: Reading, interface: Interface, received: KVCache | None) -> Tensor:
    """Losses of the answers' real tokens, row after row, where `received` is what arrives (None: no
    message)."""
    batch, ahead = reading.batch, reading.ahead(interface, received)
    with sdpa_kernel(DIFFERENTIABLE):
        output = reading.receiver(
            torch.cat([batch.prompt_ids[:, ahead.read :], batch.answer_ids], dim=1),
            past_key_values=ahead.cache,
            use_cache=True,
            logits_to_keep=batch.answer_ids.shape[1] + 1,
            **ahead.options,
        )
    logits, answers = output.logits[:, :-1].float().flatten(0, 1), batch.answer_ids.flatten()
    if batch.answer_mask is not None:
        # Pads stand behind an answer, where no real token sees them; nor does the loss.
        real = batch.answer_mask.flatten().nonzero().squeeze(1)
        real = real.to(logits.device, non_blocking=True)
        logits, answers = logits[real], answers[real]
    return F.cross_entropy(logits, answers, reduction="none")


@torch.no_grad()
def prefill(model: PreTrainedModel, token_ids: Tensor) -> KVCache:
    """The model's own cache of texts' first tokens [b, T]."""
    cache = DynamicCache()
    model.base_model(token_ids, past_key_values=cache, use_cache=True)
    return from_transformers(cache)
