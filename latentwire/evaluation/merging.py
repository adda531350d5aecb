"""What arrived for many rows, under all conditions, merged into the receiver's slots.

First sections are merged in one go: the receiver's caches of the batch have their tokens as they
are before that, for all conditions. What follows a row's first section is read again in one pass,
in which all later ones are merged (`c2c.merging_pass`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.batched_decoding import rounded
from c2c.cache import KVCache
from c2c.interface import Sent, Tokens
from c2c.merging_pass import begins_of, extend_merging
from c2c.on_device import on_device
from c2c.slot_cache import extend
from c2c.wide import take
from latentwire.channel.endpoint import Arrived
from latentwire.channel.positions import Positions
from latentwire.channel.tokens_of_runs import tokens_of_runs
from latentwire.evaluation.padded_prompts import hidden
from latentwire.evaluation.reading import Text
from latentwire.evaluation.workspace import FUSED_AT_ONCE, Workspace
from latentwire.spec.condition import Condition

# Tokens of padding that cost no more than another pass through the model. On a GPU a pass is more
# than a thousand launches, whatever it holds.
PADDING_WORTH_A_PASS = {"cuda": 8_192, "mps": 4_096, "cpu": 128}


@dataclass(frozen=True)
class Merging:
    """Of a batch of B examples: `slots` have a row for each condition and example, condition by
    condition, filled with the receiver's `own` caches [B, H, T, D] of the `prompts`, whose tokens
    are `token_ids` [B, n], padded."""

    work: Workspace
    prompts: Sequence[Text]
    token_ids: Tensor
    own: KVCache
    slots: KVCache

    def merge(self, received: dict[Condition, Arrived], conditions: Sequence[Condition]) -> None:
        """Merge what was received under the conditions; `received` is empty afterwards."""
        kept = {condition: arrival.kept for condition, arrival in received.items()}
        if any(each.sections for rows in kept.values() for each in rows):
            self._merge_first(received, conditions)
        later = {
            place: _Arrival(received[condition], later=True)
            for place, condition in enumerate(conditions)
            if any(len(each.sections) > 1 for each in kept.get(condition, ()))
        }
        received.clear()  # so that the memory of the rest is free while prompts are read
        self.work.on_phase_end("fusion")
        for each in passes(
            [spans(kept.get(condition, ()), self.lengths) for condition in conditions],
            self.work.by_device(PADDING_WORTH_A_PASS),
        ):
            self._read_on(each, kept, conditions, later)
        self.work.on_phase_end("tails")

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(prompt.ids) for prompt in self.prompts]

    def _merge_first(
        self, received: Mapping[Condition, Arrived], conditions: Sequence[Condition]
    ) -> None:
        arrivals = {
            place: _Arrival(received[condition], later=False)
            for place, condition in enumerate(conditions)
            if condition in received
        }
        rows = range(len(conditions) * len(self.prompts))
        sent = self._sent(arrivals, rows, in_place=False)
        for layer in range(self.own.layers):
            self._merge_layer(self.slots, self.own, sent, layer)

    def _merge_layer(self, slots: KVCache, own: KVCache, sent: Sent | None, layer: int) -> None:
        if sent:
            self.work.merge(layer, slots, own, sent, self.work.by_device(FUSED_AT_ONCE))

    def _sent(self, arrivals: Mapping[int, "_Arrival"], rows: range, in_place: bool) -> Sent | None:
        """What goes to these rows of the slots, of the conditions' arrivals by their place among
        all; `in_place`: what the receiver has of them stands in the slots too. None: nothing."""
        examples = len(self.prompts)
        parts = []
        for place, arrival in arrivals.items():
            first = place * examples
            asked = range(max(rows.start - first, 0), min(rows.stop - first, examples))
            if asked:
                parts.append((first - rows.start, asked, arrival))
        if not parts:
            return None
        differ = any(arrival.differs for *_, arrival in parts)

        @cache  # the tokens of a sharer layer are those of its keys and of its values
        def tokens_of(layer: int) -> Tokens:
            found = [arrival.listed(layer, asked) for _, asked, arrival in parts]
            example, _, position = torch.cat(found, 1)
            row = torch.cat([each[0] + at for each, (at, *_) in zip(found, parts, strict=True)])
            return Tokens(row if in_place else example, position, row)

        def sent(layer: int, kind: str) -> tuple[Tensor, Tokens]:
            arrived = [arrival.sent(layer, kind, asked) for _, asked, arrival in parts]
            return torch.cat(arrived), tokens_of(layer if differ else 0)

        return sent

    def _read_on(
        self,
        these: "Pass",
        kept: Mapping[Condition, Sequence[Positions]],
        conditions: Sequence[Condition],
        later: Mapping[int, "_Arrival"],
    ) -> None:
        """Read again what follows the first sections, and merge later ones."""
        device, examples = self.token_ids.device, len(self.prompts)
        visible = min(rounded(max(self.lengths)), self.slots.tokens)
        unseen, times = hidden(self.prompts, visible, device), these.stop - these.first
        last = on_device(torch.tensor(self.lengths), device)[:, None] - 1
        start, end = on_device(torch.tensor(these.spans), device).T[..., None]
        positions = start + torch.arange(these.tokens, device=device)
        # Past a row's span, all at the last token's place: decoding fills its slot anew.
        positions = torch.where(positions < end, positions, last.repeat(times, 1))
        read = (
            self.work.pair.receiver,
            self.token_ids.repeat(times, 1).gather(1, positions),
            positions,
            self.slots.rows(these.first * examples, these.stop * examples),
            visible,
            self.work.tokens_at_once,
        )
        unseen = None if unseen is None else unseen.repeat(times, 1)
        merged = {n - these.first: later[n] for n in range(these.first, these.stop) if n in later}
        if not merged:
            extend(*read, hidden=unseen)
            return
        nothing = [Positions()] * examples
        rows = [
            each
            for condition in conditions[these.first : these.stop]
            for each in kept.get(condition, nothing)
        ]

        def merge_of(slots: KVCache, start: int, stop: int) -> Callable[[int], None]:
            sent = self._sent(merged, range(start, stop), in_place=True)
            return partial(self._merge_layer, slots, slots, sent)

        begins = begins_of(*_later_sections(rows, device), positions)
        extend_merging(*read, begins, merge_of, unseen)


@dataclass
class _Arrival:
    """What one condition sent, token by token: of all rows' first sections, or of the `later`
    ones."""

    arrival: Arrived
    later: bool

    @cached_property
    def differs(self) -> bool:
        """Whether layers send different tokens."""
        return any(each.by_layer for each in self.arrival.kept)

    def listed(self, layer: int, rows: range) -> Tensor:
        """Of the tokens that a sharer layer sends of these rows: each one's row, its place among
        all that the layer sends of the row, and its position, int64 [3, M]."""
        every, ends = self._every
        first = (layer if self.differs else 0) * len(self.arrival.kept)
        return every[:, ends[first + rows.start] : ends[first + rows.stop]]

    def sent(self, layer: int, kind: str, rows: range) -> Tensor:
        """K or V of these tokens, [M, H, D]."""
        example, place, _ = self.listed(layer, rows)
        tensors = getattr(self.arrival.cache, f"{kind}s")
        return take(tensors[layer], (example, slice(None), place))

    @cached_property
    def _every(self) -> tuple[Tensor, list[int]]:
        """What is `listed` of all rows, of one layer after the other where they differ, and where
        that of each layer and row ends, behind a 0."""
        kept, runs, tokens, ends = self.arrival.kept, [], [], [0]
        for layer in range(self.arrival.cache.layers if self.differs else 1):
            for row, each in enumerate(kept):
                found = [part for part in each.placed(layer) if self._has(each, part[1])]
                runs += [(row, place, run.start) for place, run in found]
                tokens += [len(run) for _, run in found]
                ends.append(ends[-1] + sum(tokens[len(tokens) - len(found) :]))
        device = self.arrival.cache.keys[0].device
        if not runs:
            return torch.zeros(3, 0, dtype=torch.long, device=device), ends
        of_run, step = tokens_of_runs(runs, tokens, device)
        row, place, start = of_run.T
        return torch.stack([row, place + step, start + step]), ends

    def _has(self, positions: Positions, run: range) -> bool:
        return (run.start >= positions.sections[0].stop) == self.later


class Pass(NamedTuple):
    """Neighbouring conditions, of which tokens are read again together."""

    first: int
    stop: int  # one past the last
    spans: list[tuple[int, int]]  # start and stop of what is read in each of their rows
    tokens: int  # of the longest


def spans(kept: Sequence[Positions], lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Start and stop of what is read again of each row: what follows its first section, up to the
    prompt's last token; nothing where there is no section."""
    return [
        (each.sections[0].stop, tokens - 1) if each.sections else (0, 0)
        for each, tokens in zip(kept, lengths, strict=False)
    ]


def passes(rows: Sequence[Sequence[tuple[int, int]]], worth: int) -> list[Pass]:
    """What is read together, of the `spans` of each condition's rows.

    Conditions are in order of what they read, the longest first; one that reads much less, more
    than `worth` tokens of padding, begins a new pass.
    """
    found: list[Pass] = []
    padding = 0
    for place, each in enumerate(rows):
        tokens = max((stop - start for start, stop in each), default=0)
        if tokens == 0:
            continue
        if found:
            first, stop, earlier, longest = found[-1]
            padding += (longest - tokens) * len(each)
            if stop == place and padding <= worth:
                found[-1] = Pass(first, place + 1, [*earlier, *each], max(longest, tokens))
                continue
        found.append(Pass(place, place + 1, [*each], tokens))
        padding = 0
    return found


def _later_sections(rows: Sequence[Positions], device: torch.device) -> tuple[Tensor, Tensor]:
    """Starts and stops of all sections but the first, int64 [R, S], filled up as `begins_of` asks
    for."""
    most = max(1, *(len(each.sections) - 1 for each in rows))
    behind = range(torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).max)
    filled = [[*each.sections[1:], *[behind] * (most - len(each.sections[1:]))] for each in rows]
    ends = torch.tensor([[(run.start, run.stop) for run in each] for each in filled])
    starts, stops = on_device(ends, device).unbind(-1)
    return starts.contiguous(), stops.contiguous()
