"""Runs of tokens by layer, where layers send different ones: a table of numbers.

A packet holds hundreds of them and a batch tens of thousands, so what is asked of them is asked of
all at once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c2c.sections import Runs


@dataclass(frozen=True, eq=False)
class LayerRuns(Sequence[Runs]):
    """The `Runs` of each of so many layers. The table is int64 [N, 3], layer by layer: a run's
    layer, its start and its length."""

    layers: int
    table: np.ndarray
    known_counts: tuple[int, ...] | None = None  # tokens of each layer

    @classmethod
    def of(cls, layers: Sequence[Runs]) -> "LayerRuns":
        if isinstance(layers, cls):
            return layers
        runs = [(layer, run.start, len(run)) for layer, own in enumerate(layers) for run in own]
        return cls(len(layers), np.array(runs, dtype=np.int64).reshape(-1, 3))

    @classmethod
    def of_tokens(cls, rows: Sequence[np.ndarray]) -> "list[LayerRuns]":
        """`sections.runs_of` of each layer of several rows: integers from 0 up, [L, K] each."""
        layers, lines = len(rows[0]), len(rows) * len(rows[0])
        tokens = np.concatenate([row.ravel() for row in rows])
        places = int(tokens.max(initial=0)) + 2
        line = np.arange(lines).repeat(np.repeat([row.shape[1] for row in rows], layers))
        sent = np.zeros((lines, places + 1), dtype=bool)
        sent.ravel()[line * (places + 1) + tokens + 1] = True
        line, place = np.divmod(np.flatnonzero(sent[:, 1:] != sent[:, :-1]), places)
        line, start, stop = line[::2], place[::2], place[1::2]
        table = np.stack([line % layers, start, stop - start], axis=1)
        ends = np.searchsorted(line, np.arange(len(rows) + 1) * layers).tolist()
        counts = sent.sum(1).reshape(len(rows), layers).tolist()
        return [
            cls(layers, table[start:stop], tuple(own))
            for start, stop, own in zip(ends, ends[1:], counts, strict=False)
        ]

    def __len__(self) -> int:
        return self.layers

    def __getitem__(self, layer: Any) -> Any:
        number = range(self.layers)[layer]  # IndexError ends who goes through them
        first, stop = np.searchsorted(self.table[:, 0], (number, number + 1))
        runs = self.table[first:stop, 1:].tolist()
        return tuple(range(start, start + length) for start, length in runs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LayerRuns | tuple):
            return NotImplemented
        theirs = LayerRuns.of(other)
        return self.layers == theirs.layers and np.array_equal(self.table, theirs.table)

    def __hash__(self) -> int:
        """That of the tuple to which it is equal."""
        return hash(tuple(self))

    def only(self, layers: Collection[int]) -> "LayerRuns":
        """Nothing of any but these layers."""
        if len(layers) == self.layers or not len(self.table):
            return self
        named = np.zeros(self.layers, dtype=bool)
        named[[*layers]] = True
        return LayerRuns(self.layers, self.table[named[self.table[:, 0]]])

    def are(self, sections: Runs, layers: Collection[int]) -> bool:
        """Whether each of these layers, and no other, sends all of the sections."""
        alike = len(self.table) == len(layers) * len(sections)
        return alike and all(self[layer] == sections for layer in layers)

    def ascend(self) -> bool:
        """Whether the runs of each layer are what `Runs` says."""
        layer, start, length = self.table.T
        apart = (start[1:] > start[:-1] + length[:-1]) | (layer[1:] != layer[:-1])
        return bool((length > 0).all() and (start >= 0).all() and apart.all())

    def outside(self, sections: Runs) -> np.ndarray:
        """Which layers send a token that lies in no section: ascending, int64. Runs and sections
        are what `Runs` says."""
        starts, stops = np.array([(-1, -1), *((run.start, run.stop) for run in sections)]).T
        layer, start, length = self.table.T
        ends = stops[np.searchsorted(starts, start, side="right") - 1]
        return layer[start + length > ends]

    def counts(self) -> tuple[int, ...]:
        """How many tokens each layer sends."""
        if self.known_counts is not None:
            return self.known_counts
        layer, _, length = self.table.T
        return tuple(np.bincount(layer, length, self.layers).astype(np.int64).tolist())


def all_within(rows: Sequence[LayerRuns], sections: Sequence[Runs]) -> bool:
    """Whether of each row the runs `ascend` and none is `outside` its sections, which are what
    `Runs` says; rows are of as many layers."""
    stride = 1 + max((run.stop for own in sections for run in own), default=0)
    row = np.arange(len(rows)).repeat([len(each.table) for each in rows])
    layer, start, length = np.concatenate([each.table for each in rows]).T
    if ((start < 0) | (start + length > stride)).any():
        return False
    # One behind the other, as of one row.
    table = np.stack([layer + row * rows[0].layers, start + row * stride, length], axis=1)
    joined = LayerRuns(len(rows) * rows[0].layers, table)
    moved = (
        range(run.start + place * stride, run.stop + place * stride)
        for place, own in enumerate(sections)
        for run in own
    )
    return joined.ascend() and not len(joined.outside(tuple(moved)))
