"""From runs of tokens to tokens one by one: worked out for many rows at once, on the device, where
there may be millions of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from c2c.on_device import on_device
from latentwire.channel.positions import Positions
from latentwire.channel.sent_rows import SentRows


class Table(NamedTuple):
    """Runs of B rows in L layers, int64 [N] each, layer by layer and row by row."""

    layer: np.ndarray
    row: np.ndarray
    start: np.ndarray
    tokens: np.ndarray
    place: np.ndarray  # of its first token among all that the layer sends of the row

    def of(self, which: np.ndarray) -> "Table":
        """Those that a mask or an index says."""
        return Table(*(column[which] for column in self))

    def ends(self, layers: int, rows: int) -> np.ndarray:
        """Where the tokens of each layer and row end, among all, behind a 0: int64 [L * B + 1]."""
        counts = np.bincount(self.layer * rows + self.row, self.tokens, layers * rows)
        return np.concatenate([[0], counts.cumsum().astype(np.int64)])


def table_of(chosen: SentRows, layers: int) -> Table:
    """What each of so many layers sends of each row."""
    return chosen.once(("table", layers), lambda: _table_of(chosen, layers))


def _table_of(chosen: SentRows, layers: int) -> Table:
    rows = range(len(chosen))
    if not chosen.differ:  # every layer's runs are the same
        runs = [(row, run.start, len(run)) for row in rows for run in chosen[row].sections]
        of_one = np.array(runs, dtype=np.int64).reshape(-1, 3)
        row, start, tokens = np.tile(of_one, (layers, 1)).T
        layer = np.repeat(np.arange(layers), len(of_one))
    else:
        tables = [_of_layers(each, layers) for each in chosen]
        found, row = np.concatenate(tables), np.repeat(rows, list(map(len, tables)))
        order = found[:, 0].astype(np.uint16).argsort(kind="stable")  # so small numbers by radix
        row, (layer, start, tokens) = row[order], found[order].T
    before = tokens.cumsum() - tokens
    first = np.r_[True, (layer[1:] != layer[:-1]) | (row[1:] != row[:-1])][: len(row)]
    place = before - np.maximum.accumulate(np.where(first, before, 0))
    return Table(layer, row, start, tokens, place)


def _of_layers(chosen: Positions, layers: int) -> np.ndarray:
    """A row's table; where its layers do not differ, its runs are every layer's."""
    table = chosen.table
    if chosen.by_layer:
        return table
    layer = np.repeat(np.arange(layers), len(table))
    return np.column_stack([layer, np.tile(table[:, 1:], (layers, 1))])


def tokens_of_runs(
    numbers: Sequence[np.ndarray], tokens: np.ndarray, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of each token of runs of so many `tokens`, one run after the other: its run's `numbers` (one
    of each array), int64 [C, M], and its place in the run, int64 [M]. Waits for no device."""
    told = on_device(torch.from_numpy(np.stack([*numbers, tokens])), device)
    counts, total = told[-1], int(tokens.sum())
    of_run = torch.arange(len(tokens), device=device).repeat_interleave(counts, output_size=total)
    place = torch.arange(total, device=device) - (counts.cumsum(0) - counts)[of_run]
    return told[:-1, of_run], place


def tokens_of_rows(chosen: SentRows, layers: int, device: torch.device) -> tuple[Tensor, list[int]]:
    """The positions that each of so many layers sends of each row, int64 [L, B, K], filled up by
    the last one (of a row of none, by 0); and each layer's most, one at least."""
    return chosen.once(("tokens", layers, device), lambda: _tokens_of_rows(chosen, layers, device))


def _tokens_of_rows(
    chosen: SentRows, layers: int, device: torch.device
) -> tuple[Tensor, list[int]]:
    if layers == 1 and not (chosen.later or chosen.differ):
        return _of_one_section(chosen, device)
    one_by_one, ends = every_token(chosen, layers, device)
    every = F.pad(one_by_one, (0, 1))  # what rows of none are filled up by stands at the end
    count = np.diff(ends)
    begin = np.where(count, ends[:-1], ends[-1])
    reach = np.stack([begin, begin + np.maximum(count, 1) - 1])
    first, last = on_device(torch.from_numpy(reach), device)[..., None]
    most = count.reshape(layers, len(chosen)).max(1).clip(min=1).tolist()
    index = torch.minimum(first + torch.arange(max(most), device=device), last)
    return every[index].unflatten(0, (layers, len(chosen))), most


def _of_one_section(chosen: SentRows, device: torch.device) -> tuple[Tensor, list[int]]:
    """`tokens_of_rows` where no row has more than one: as most conditions, and without a table."""
    sections = [each.sections[0] if each.sections else range(1) for each in chosen]
    ends = np.array([(section.start, section.stop - 1) for section in sections])
    first, last = on_device(torch.from_numpy(ends.T.copy()), device)[..., None]
    most = max(map(len, sections))
    return torch.minimum(first + torch.arange(most, device=device), last)[None], [most]


def every_token(chosen: SentRows, layers: int, device: torch.device) -> tuple[Tensor, np.ndarray]:
    """The positions that are sent, layer by layer and row by row, int64 [M], and where those of
    each layer and row end (`Table.ends`)."""

    def work_out() -> tuple[Tensor, np.ndarray]:
        table = table_of(chosen, layers)
        (start,), place = tokens_of_runs([table.start], table.tokens, device)
        return start + place, table.ends(layers, len(chosen))

    return chosen.once(("every token", layers, device), work_out)
