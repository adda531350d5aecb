"""What arrived for many rows, under all conditions, merged into the receiver's slots.

First sections are merged in one go: the receiver's caches of the batch have their tokens as they
are before that, for all conditions. What follows a row's first section is read again in one pass,
in which all later ones are merged (`c2c.merging_pass`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.interface import Sent, Tokens
from c2c.merging_pass import MergingPass, begins_of
from c2c.on_device import on_device
from c2c.pieces import Piece
from c2c.slot_cache import ExtendPass, extend, plain
from c2c.wide import take
from latentwire.channel.endpoint import Arrived
from latentwire.channel.positions import Positions
from latentwire.channel.sent_rows import SentRows
from latentwire.channel.tokens_of_runs import every_token, table_of, tokens_of_runs
from latentwire.evaluation.padded_prompts import hidden
from latentwire.evaluation.reading import Text
from latentwire.evaluation.workspace import FUSED_AT_ONCE, Workspace
from latentwire.spec.condition import Condition


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
            if condition in kept and kept[condition].later
        }
        received.clear()  # so that the memory of the rest is free while prompts are read
        self.work.on_phase_end("fusion")
        nothing = [Positions()] * len(self.prompts)
        rows = [each for c in conditions for each in kept.get(c, nothing)]
        self._read_on(rows, later)
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

    def _merge_layer(self, slots: KVCache, own: KVCache, sent: Sent, layer: int) -> None:
        self.work.merge(layer, slots, own, sent, self.work.by_device(FUSED_AT_ONCE))

    def _sent(self, arrivals: Mapping[int, "_Arrival"], rows: range, in_place: bool) -> Sent:
        """What goes to these rows of the slots, of the conditions' arrivals by their place among
        all, one at least; `in_place`: what the receiver has of them stands in the slots too."""
        examples = len(self.prompts)
        parts = []
        for place, arrival in arrivals.items():
            first = place * examples
            asked = range(max(rows.start - first, 0), min(rows.stop - first, examples))
            if asked:
                parts.append((first - rows.start, asked, arrival))
        # Conditions side by side of which none sends other tokens in other layers, or each.
        grouped = [[*part] for _, part in groupby(parts, lambda part: part[2].differs)]

        @cache
        def of_group(number: int, layer: int) -> Tensor:
            """Row among the slots, example and position of each token, int64 [3, M]."""
            found = []
            for at, asked, arrival in grouped[number]:
                example, _, position = arrival.listed(layer, asked)
                found.append(torch.stack([example + at, example, position]))
            return torch.cat(found, 1)

        @cache  # the tokens of a sharer layer are those of its keys and of its values
        def tokens_of(layer: int) -> Tokens:
            found = [
                of_group(number, layer if group[0][2].differs else 0)
                for number, group in enumerate(grouped)
            ]
            row, example, position = torch.cat(found, 1)
            return Tokens(row if in_place else example, position, row)

        differ = any(arrival.differs for *_, arrival in parts)

        def sent(layer: int, kind: str) -> tuple[Tensor, Tokens]:
            arrived = [arrival.sent(layer, kind, asked) for _, asked, arrival in parts]
            return torch.cat(arrived), tokens_of(layer if differ else 0)

        return sent

    def _read_on(self, rows: Sequence[Positions], later: Mapping[int, "_Arrival"]) -> None:
        """Read again what follows the first section of each row of the slots, of which `rows` says
        what is sent, and merge later sections."""
        device, times = self.token_ids.device, len(rows) // len(self.prompts)
        spans = [read_on(*each) for each in zip(rows, self.lengths * times, strict=True)]
        longest = max(stop - start for start, stop in spans)
        starts = on_device(torch.tensor([start for start, _ in spans]), device)[:, None]
        places = starts + torch.arange(longest, device=device)
        places = places.clamp(max=self.token_ids.shape[1] - 1)
        unseen = hidden(self.prompts, self.slots.tokens, device)

        def view(
            piece: Piece, slots: KVCache, positions: Tensor, visible: int, unseen: Tensor | None
        ) -> ExtendPass:
            part = rows[piece.start : piece.stop]
            most = max(each.count - len(each.sections[0]) for each in part if each.sections)
            if not most:
                return plain(piece, slots, positions, visible, unseen)
            begins = begins_of(*_later_sections(part, device), positions)
            sent = self._sent(later, range(piece.start, piece.stop), in_place=True)
            merge = partial(self._merge_layer, slots, slots, sent)
            return MergingPass(slots, positions, visible, unseen, begins, most, merge)

        extend(
            self.work.pair.receiver,
            self.token_ids.repeat(times, 1).gather(1, places),
            spans,
            self.slots.rows(0, len(rows)),
            self.work.at_once,
            hidden=None if unseen is None else unseen.repeat(times, 1),
            view=view,
        )


@dataclass
class _Arrival:
    """What one condition sent, token by token: of all rows' first sections, or of the `later`
    ones."""

    arrival: Arrived
    later: bool

    @property
    def differs(self) -> bool:
        """Whether layers send different tokens."""
        return self.arrival.kept.differ

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

    @property
    def _every(self) -> tuple[Tensor, list[int]]:
        """What is `listed` of all rows, of one layer after the other where they differ, and where
        that of each layer and row ends, behind a 0."""
        cache = self.arrival.cache
        return listed(self.arrival.kept, self.later, cache.layers, cache.keys[0].device)


def listed(
    kept: SentRows, later: bool, layers: int, device: torch.device
) -> tuple[Tensor, list[int]]:
    """Of the tokens of all rows' first sections, or of the `later` ones, each one's row, its place
    and its position (`_Arrival.listed`), int64 [3, M]: of one layer after the other where they
    differ; and where those of each layer and row end, behind a 0. Kept with the rows."""
    layers = layers if kept.differ else 1
    return kept.once(
        ("listed", later, layers, device), lambda: _listed(kept, later, layers, device)
    )


def _listed(
    kept: SentRows, later: bool, layers: int, device: torch.device
) -> tuple[Tensor, list[int]]:
    table = table_of(kept, layers)
    stops = np.array([each.sections[0].stop if each.sections else 0 for each in kept])
    which = (table.start >= stops[table.row]) == later
    if which.all():
        position, ends = every_token(kept, layers, device)
        rows = np.arange(len(ends) - 1) % len(kept)  # of each layer and row all its tokens
        (row,), place = tokens_of_runs([rows], np.diff(ends), device)
        return torch.stack([row, place, position]), ends.tolist()
    table = table.of(which)
    numbers = table.row, table.place, table.start
    (row, place, start), step = tokens_of_runs(numbers, table.tokens, device)
    return torch.stack([row, place + step, start + step]), table.ends(layers, len(kept)).tolist()


def read_on(positions: Positions, prompt_tokens: int) -> tuple[int, int]:
    """Start and stop of what is read again of a row: what follows its first section, up to the
    prompt's last token; nothing where there is no section."""
    last = prompt_tokens - 1
    return positions.sections[0].stop if positions.sections else last, last


def _later_sections(rows: Sequence[Positions], device: torch.device) -> tuple[Tensor, Tensor]:
    """Starts and stops of all sections but the first, int64 [R, S], filled up as `begins_of` asks
    for."""
    most = max(1, *(len(each.sections) - 1 for each in rows))
    behind = range(torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).max)
    filled = [[*each.sections[1:], *[behind] * (most - len(each.sections[1:]))] for each in rows]
    ends = torch.tensor([[(run.start, run.stop) for run in each] for each in filled])
    starts, stops = on_device(ends, device).unbind(-1)
    return starts.contiguous(), stops.contiguous()
