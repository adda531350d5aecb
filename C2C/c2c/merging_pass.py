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
from transformers import PreTrainedModel

from c2c.cache import KVCache
from c2c.slot_cache import ExtendPass, additive, near, pieces, run, without

ALIGNED = 8  # numbers

# Of these slots, those of the rows start to stop - 1 of all: what merges a layer, in place.
MergeOf = Callable[[KVCache, int, int], Callable[[int], None]]


class MergingPass(ExtendPass):
    """An `ExtendPass` of tokens whose sections begin at `begins` (int64 [R, T]); of a token that is
    in none, the position behind it stands there. `merge(layer)` changes the slots of one layer."""

    def __init__(
        self,
        slots: KVCache,
        positions: Tensor,
        visible: int,
        hidden: Tensor | None,
        begins: Tensor,
        merge: Callable[[int], None],
    ) -> None:
        super().__init__(slots, positions, visible, hidden)
        self.begins, self.merge = begins, merge

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """The visible slots of all after the layer is merged and, behind them, K and V of the
        pass's own tokens before that."""
        keys, values = super().update(key, value, layer)
        self.merge(layer)
        return torch.cat([keys, key], 2), torch.cat([values, value], 2)

    def mask(self, query: Tensor, window: int | None, groups: int) -> Tensor:
        """What to add to the scores of `groups` query heads as one: [R, 1, groups * T, visible +
        T]."""
        if (window, groups) not in self._masks:
            slots = torch.arange(self.visible, device=query.device).expand(len(self.positions), -1)
            places = torch.cat([slots, self.positions], 1)[:, None]
            own, begin = self.positions[..., None], self.begins[..., None]
            merged = torch.arange(places.shape[2], device=query.device) < self.visible
            seen = near(own - places, window) & ((places < begin) == merged)
            seen = seen.repeat(1, groups, 1)[:, None]
            if self.hidden is not None:
                seen = without(seen, self.hidden.gather(1, places[:, 0]))
            # Kernels copy a mask, layer by layer, whose lines begin at odd places of memory.
            room = -seen.shape[-1] % ALIGNED
            self._masks[window, groups] = additive(F.pad(seen, (0, room)), query.dtype)[
                ..., : places.shape[-1]
            ]
        return self._masks[window, groups]


def begins_of(starts: Tensor, stops: Tensor, positions: Tensor) -> Tensor:
    """Where the section of each of `positions` (int64 [R, T]) begins, [R, T]; of one that is in
    none, the position behind it. Sections are `starts` to `stops` - 1, int64 [R, S], ascending and
    filled up with any that lie behind all positions."""
    place = torch.searchsorted(starts, positions.contiguous(), right=True) - 1
    found, at = place >= 0, place.clamp(min=0)
    inside = found & (positions < stops.gather(1, at))
    return torch.where(inside, starts.gather(1, at), positions + 1)


@torch.inference_mode()
def extend_merging(
    model: PreTrainedModel,
    token_ids: Tensor,
    positions: Tensor,
    slots: KVCache,
    visible: int,
    tokens_at_once: int,
    begins: Tensor,
    merge_of: MergeOf,
    hidden: Tensor | None = None,
) -> None:
    """`slot_cache.extend` with sections that are merged; `begins` as `MergingPass` has it.

    Inside `slot_attention` only.
    """
    rows, tokens = token_ids.shape
    for start, stop in pieces(rows, tokens, tokens_at_once):
        part, own = slice(start, stop), slots.rows(start, stop)
        unseen = None if hidden is None else hidden[part]
        merge = merge_of(own, start, stop)
        view = MergingPass(own, positions[part], visible, unseen, begins[part], merge)
        run(model, token_ids[part], positions[part], view)
