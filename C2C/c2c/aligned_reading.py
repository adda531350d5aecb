"""Aligned prompts in a training: of each model its own tokens, and which belong together.

As in evaluation: the sharer's tokens are sent, each goes to the receiver's tokens that it belongs
to, and after each message that was merged the receiver reads on. Padding takes up its position and
is left out, so that no model reads it; but where a prompt ends on it, from which the answer starts.
A sliding window, which evaluation counts over padding, is so wider by the padding in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, concatenate, from_transformers, to_transformers, tokens_at
from c2c.interface import Interface
from c2c.paired_prompts import PairedPrompts
from c2c.sections import Runs, runs_of
from c2c.training_readings import DIFFERENTIABLE, Ahead, Batch, Reading, prefill


@dataclass(frozen=True)
class Layout:
    """What rows that are read together have in common; positions run over padding."""

    tokens: int  # of the receiver's prompt
    receiver_pads: tuple[int, ...]
    sharer_pads: tuple[int, ...]
    merged: Runs  # the receiver's tokens that take one of those sent

    @cached_property
    def read(self) -> list[int]:
        """The receiver's tokens without padding, but for a prompt's last."""
        pads = {*self.receiver_pads} - {self.tokens - 1}
        return [place for place in range(self.tokens) if place not in pads]

    @cached_property
    def merged_read(self) -> Runs:
        """`merged` in places of `read`."""
        places = {place: number for number, place in enumerate(self.read)}
        return tuple(range(places[run[0]], places[run[-1]] + 1) for run in self.merged)

    @property
    def ends_on_padding(self) -> bool:
        """Whether the answer starts behind a token that no other sees."""
        return self.tokens - 1 in self.receiver_pads


def rows_by_layout(batch: Batch, kept: int, order: str) -> dict[Layout, list[int]]:
    """Which rows of a batch of aligned prompts are read together; `kept` and `order` are as
    `readings_of` has them."""
    found: dict[Layout, list[int]] = {}
    for row, (aligned, numbers) in enumerate(
        zip(batch.aligned, _kept(batch, kept, order), strict=True)
    ):
        sent = {aligned.sendable[number] for number in numbers}
        merged = runs_of(place for place, s in enumerate(aligned.sources) if s in sent)
        pads = aligned.receiver_pads, aligned.sharer_pads
        found.setdefault(Layout(len(aligned.receiver_ids), *pads, merged), []).append(row)
    return found


def _kept(batch: Batch, kept: int, order: str) -> list[range]:
    """Of each row, which of the tokens that can be sent are: one at least, but for a share of 0."""
    assert batch.message_ids is not None
    found, share = [], kept / batch.message_ids.shape[1]
    for aligned in batch.aligned:
        able = len(aligned.sendable)
        count = min(able, max(int(able * share), int(kept > 0)))
        found.append(range(count) if order == "front" else range(able - count, able))
    return found


def aligned_readings(
    receiver: PreTrainedModel, sharer: PreTrainedModel, batch: Batch, kept: int, order: str
) -> "list[AlignedReading]":
    """See `readings_of`."""
    numbers = _kept(batch, kept, order)
    readings = []
    for layout, rows in rows_by_layout(batch, kept, order).items():
        aligned = [batch.aligned[row] for row in rows]
        readings.append(
            AlignedReading(
                receiver,
                sharer,
                _without_padding(batch, layout, rows),
                torch.tensor(rows),
                layout.merged[0] if layout.merged else range(0),
                layout,
                aligned,
                [numbers[row] for row in rows],
            )
        )
    return readings


def _without_padding(batch: Batch, layout: Layout, rows: Sequence[int]) -> Batch:
    """The rows as their models read them: of the sharer's prompts what can be sent, and what stands
    before it."""
    assert batch.message_ids is not None
    device = batch.prompt_ids.device
    before = batch.prompt_ids.shape[1] - layout.tokens
    picked = _on(rows, device)
    prompts = batch.prompt_ids[picked].index_select(1, _on(layout.read, device) + before)
    aligned = [batch.aligned[row] for row in rows]
    read = _on(_read_by_sharer(layout, aligned), device)
    messages = batch.message_ids[picked].index_select(1, read)
    mask = None if batch.answer_mask is None else batch.answer_mask[torch.tensor(rows)]
    return Batch(prompts, batch.answer_ids[picked], None, mask, messages)


def _read_by_sharer(layout: Layout, aligned: Sequence[PairedPrompts]) -> list[int]:
    stop = max((each.sendable[-1] + 1 for each in aligned if each.sendable), default=0)
    return [place for place in range(stop) if place not in layout.sharer_pads]


@dataclass(eq=False)
class AlignedReading(Reading):
    """Rows of one layout. Prompts of the sharer's are filled up behind their ends, where no real
    token looks."""

    layout: Layout
    aligned: Sequence[PairedPrompts]
    kept: Sequence[range]  # which of each row's tokens that can be sent are, by number
    BY_ROW = *Reading.BY_ROW, "aligned", "kept"

    @property
    def runs(self) -> Sequence[Runs]:
        """See `Reading`."""
        return [
            runs_of(aligned.sendable[number] for number in numbers)
            for aligned, numbers in zip(self.aligned, self.kept, strict=True)
        ]

    @cached_property
    def theirs(self) -> KVCache:
        """The sharer's cache of all that it reads."""
        assert self.batch.message_ids is not None
        positions = None
        if self.layout.sharer_pads:
            read = _read_by_sharer(self.layout, self.aligned)
            positions = _on(read, self.batch.message_ids.device)[None]
        return prefill(self.sharer, self.batch.message_ids, positions)

    @cached_property
    def sent(self) -> KVCache:
        """See `Reading`; shorter rows repeat their last token."""
        return self._of(self.theirs, self.aligned)

    def _of(self, cache: KVCache, texts: Sequence[PairedPrompts]) -> KVCache:
        """What is sent of each row where it has the cache of one of `texts`, brought to as many
        tokens as the row can send: at the front some are lost, or the first is repeated."""
        read = {place: n for n, place in enumerate(_read_by_sharer(self.layout, self.aligned))}
        shifts = [
            len(text.sendable) - len(own.sendable)
            for text, own in zip(texts, self.aligned, strict=True)
        ]
        return tokens_at(
            cache,
            [
                [read[text.sendable[max(0, number + shift)]] for number in numbers]
                for text, shift, numbers in zip(texts, shifts, self.kept, strict=True)
            ],
        )

    @cached_property
    def own(self) -> KVCache:
        """The receiver's cache of all tokens up to the end of the first run that is merged."""
        stop = self.layout.merged_read[0].stop
        positions = None if self._positions is None else self._positions[:, :stop]
        return prefill(self.receiver, self.batch.prompt_ids[:, :stop], positions)

    @cached_property
    def _taken(self) -> list[list[int]]:
        """Of each row's tokens that are merged, the places of their sources among those sent."""
        found = []
        for aligned, numbers in zip(self.aligned, self.kept, strict=True):
            sent = {aligned.sendable[number]: place for place, number in enumerate(numbers)}
            places = (place for run in self.layout.merged for place in run)
            found.append([sent[source] for p in places if (source := aligned.sources[p]) in sent])
        return found

    @cached_property
    def _positions(self) -> Tensor | None:
        """Of prompt and answer, int64 [1, n + m]; None: one after the other."""
        if not self.layout.receiver_pads:
            return None
        answer = range(self.layout.tokens, self.layout.tokens + self.batch.answer_ids.shape[1])
        return _on([*self.layout.read, *answer], self.batch.prompt_ids.device)[None]

    @cached_property
    def _seen(self) -> Tensor | None:
        """Which of prompt and answer are no padding, int64 [b, n + m]; None: all."""
        if not self.layout.ends_on_padding:
            return None
        rows, answer = self.batch.answer_ids.shape
        seen = torch.ones(rows, len(self.layout.read) + answer, dtype=torch.long)
        seen[:, len(self.layout.read) - 1] = 0
        return seen.to(self.batch.prompt_ids.device, non_blocking=True)

    def read(self) -> None:
        """See `Reading`."""
        if self.section:
            _ = self.sent, self.own, self._seen

    def lent(self) -> Reading:
        """See `Reading`."""
        lent = self._of(
            self.theirs.map(lambda tensor: tensor.roll(-1, dims=0)),
            [*self.aligned[1:], self.aligned[0]],
        )
        other = replace(self, rows=self.rows.roll(-1))
        vars(other).update(sent=lent, own=self.own)
        return other

    def ahead(self, interface: Interface, received: KVCache | None) -> Ahead:
        """See `Reading`."""
        if received is None or not self.section:
            cache = to_transformers(self.own) if self.section else DynamicCache()
            return self._behind(cache)
        cut, done = self.own, 0
        taken = tokens_at(received, self._taken)
        for number, run in enumerate(self.layout.merged_read):
            if number:
                cut = self._read_on(cut, run.stop)
            part = taken.section(done, done + len(run))
            merged = interface.merge(part, cut.section(run.start, run.stop))
            cut = concatenate([cut.section(0, run.start), merged], dim=2)
            done += len(run)
        return self._behind(to_transformers(cut))

    def _read_on(self, before: KVCache, stop: int) -> KVCache:
        """The receiver's cache up to `stop`, read on top of what was merged `before`."""
        cache, start = to_transformers(before), before.tokens
        with sdpa_kernel(DIFFERENTIABLE):
            self.receiver.base_model(
                self.batch.prompt_ids[:, start:stop],
                past_key_values=cache,
                use_cache=True,
                position_ids=None if self._positions is None else self._positions[:, start:stop],
            )
        return from_transformers(cache)

    def _behind(self, cache: DynamicCache) -> Ahead:
        """All that is still to be read, behind what stands in the cache."""
        read = cache.get_seq_length()
        options = {}
        if self._positions is not None:
            options["position_ids"] = self._positions[:, read:]
        if self._seen is not None:
            options["attention_mask"] = self._seen
        return Ahead(cache, read, options)


def _on(numbers: Iterable[int], device: torch.device) -> Tensor:
    return torch.tensor([*numbers], dtype=torch.long).to(device, non_blocking=True)
