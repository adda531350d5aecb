"""What a training reads: batches of conversations, and what both frozen models have of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, concatenate, from_transformers, to_transformers
from c2c.interface import Interface
from c2c.paired_prompts import PairedPrompts
from c2c.sections import Runs

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

    With a tokenizer at each end the messages are the sharer's prompts, and `aligned` says of each
    row which tokens belong together. Its padding stands in both prompts like any token.
    """

    prompt_ids: Tensor
    answer_ids: Tensor
    prompt_mask: Tensor | None = None
    answer_mask: Tensor | None = None
    message_ids: Tensor | None = None
    message_tokens: Sequence[int] = ()
    aligned: Sequence[PairedPrompts] = ()

    def repeated(self, times: int) -> "Batch":
        """The same rows so many times over."""
        return Batch(*(_repeated(getattr(self, field.name), times) for field in fields(self)))


class Ahead(NamedTuple):
    """What stands in the receiver's cache, and the prompt's tokens that it need not read."""

    cache: DynamicCache | None
    read: int
    options: Mapping[str, Tensor] = {}  # for the model, where a cache does not say all


@dataclass(eq=False)
class Reading:
    """Rows of a batch whose prompts are of one length, and what both frozen models have of them,
    each read once, when it is first asked for, whatever losses follow."""

    receiver: PreTrainedModel
    sharer: PreTrainedModel
    batch: Batch  # these rows, without the pads of prompts
    rows: Tensor  # int64 [b], on the host: which of the whole batch's rows they are
    section: range  # the prompt's tokens that are sent; empty where nothing is
    BY_ROW: ClassVar[tuple[str, ...]] = "batch", "rows"  # fields that say something of each row

    @property
    def runs(self) -> Sequence[Runs]:
        """What is sent of each row, of the text that the sharer reads."""
        return [(self.section,)] * len(self.rows)

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

    def repeated(self, times: int) -> "Reading":
        """The same rows so many times over, for as many messages; nothing is read again."""
        rows = {name: _repeated(getattr(self, name), times) for name in self.BY_ROW}
        other = replace(self, **rows)
        if "own" in vars(self):
            vars(other)["own"] = self.own.map(lambda tensor: tensor.repeat(times, 1, 1, 1))
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
    BY_ROW = *Reading.BY_ROW, "sent_runs", "text_tokens"

    @property
    def runs(self) -> Sequence[Runs]:
        """See `Reading`."""
        return [(run,) for run in self.sent_runs]

    @cached_property
    def positions(self) -> Tensor:
        """Of what is sent, int64 [b, T]; shorter rows repeat their last one."""
        most = max(map(len, self.sent_runs))
        filled = [[*run, *[run[-1]] * (most - len(run))] for run in self.sent_runs]
        return torch.tensor(filled, device=self.batch.prompt_ids.device)

    @cached_property
    def sent(self) -> KVCache:
        """The sharer's cache of the runs."""
        assert self.batch.message_ids is not None
        stop = max(run.stop for run in self.sent_runs)
        read = prefill(self.sharer, self.batch.message_ids[:, :stop])
        if all(run == range(read.tokens) for run in self.sent_runs):
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
        counts = torch.tensor([len(run) for run in self.sent_runs])[:, None]
        if bool((counts < front.tokens).any()):
            seen = torch.arange(front.tokens) < counts
            mask = torch.cat([seen, seen.new_ones(len(seen), tokens)], dim=1)
            options["attention_mask"] = mask.long().to(device)
        return Ahead(to_transformers(front), 0, options)


def _repeated(each: Any, times: int) -> Any:
    """A batch, a tensor or a list of rows, so many times over; None stays None."""
    if isinstance(each, Batch):
        return each.repeated(times)
    if isinstance(each, Tensor):
        return each.repeat(times, *[1] * (each.dim() - 1))
    return None if each is None else [*each] * times


@torch.no_grad()
def prefill(model: PreTrainedModel, token_ids: Tensor, positions: Tensor | None = None) -> KVCache:
    """The model's own cache of texts' first tokens [b, T], at `positions` (int64 [1, T]); None: one
    after the other."""
    cache = DynamicCache()
    model.base_model(token_ids, past_key_values=cache, use_cache=True, position_ids=positions)
    return from_transformers(cache)
