"""Tokens read on top of a cache while sections of them are merged, all in one pass.

The definition reads a section, merges it, and reads the next on top of what became of it. A layer's
merge needs no more than that layer's K and V, and what follows a section needs of it, layer by
layer, no more than what was merged: so all sections go through the model side by side, and each
layer is merged as soon as its K and V are there. What a token sees then depends on where it stands:
of earlier sections what was merged, of its own what the receiver has of it before that.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from c2c.cache import KVCache
from c2c.slot_cache import ExtendPass, additive, near, without
from c2c.wide import take

ALIGNED = 8  # numbers


class MergingPass(ExtendPass):
    """An `ExtendPass` in which `merge` changes the slots of one layer after the other.

    The sections of tokens that are merged begin at `begins` (int64 [R, T]); of a token that is in
    none, the position behind it stands there. No row has more than `most` such tokens.
    """

    def __init__(
        self,
        slots: KVCache,
        positions: Tensor,
        visible: int,
        hidden: Tensor | None,
        begins: Tensor,
        most: int,
        merge: Callable[[int], None],
    ) -> None:
        super().__init__(slots, positions, visible, hidden)
        self.begins, self.merge = begins, merge
        inside = begins <= positions
        # Those of the pass's tokens that are merged, the first ones first; others fill up.
        order = inside.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        self._own = order[:, :most]
        place = positions.gather(1, self._own)
        self._own_places = torch.where(inside.gather(1, self._own), place, -1)

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """The visible slots of all after the layer is merged and, behind them, K and V of what is
        merged before that."""
        keys, values = super().update(key, value, layer)
        before = [
            take(x, (self._rows, slice(None), self._own)).transpose(1, 2) for x in (key, value)
        ]
        self.merge(layer)
        return torch.cat([keys, before[0]], 2), torch.cat([values, before[1]], 2)

    def mask(self, query: Tensor, window: int | None, groups: int) -> Tensor:
        """What to add to the scores of `groups` query heads as one: [R, 1, groups * T, visible +
        most]."""
        if (window, groups) not in self._masks:
            slots = torch.arange(self.visible, device=query.device).expand(len(self.positions), -1)
            places = torch.cat([slots, self._own_places], 1)[:, None]
            own, begin = self.positions[..., None], self.begins[..., None]
            merged = torch.arange(places.shape[2], device=query.device) < self.visible
            seen = near(own - places, window) & ((places < begin) == merged)
            seen = seen.repeat(1, groups, 1)[:, None]
            if self.hidden is not None:
                seen = without(seen, self.hidden.gather(1, places[:, 0].clamp(min=0)))
            # Kernels copy a mask, layer by layer, whose lines begin at odd places of memory.
            room = -seen.shape[-1] % ALIGNED
            mask = additive(F.pad(seen, (0, room)), query.dtype)
            self._masks[window, groups] = mask[..., : places.shape[-1]]
        return self._masks[window, groups]


def begins_of(starts: Tensor, stops: Tensor, positions: Tensor) -> Tensor:
    """Where the section of each of `positions` (int64 [R, T]) begins, [R, T]; of one that is in
    none, the position behind it. Sections are `starts` to `stops` - 1, int64 [R, S], ascending and
    filled up with any that lie behind all positions."""
    place = torch.searchsorted(starts, positions.contiguous(), right=True) - 1
    found, at = place >= 0, place.clamp(min=0)
    inside = found & (positions < stops.gather(1, at))
    return torch.where(inside, starts.gather(1, at), positions + 1)
