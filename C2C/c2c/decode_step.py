"""A pass over one more token in each row, where a kernel does its attention: on CUDA, in 16 bits.

Elsewhere, and in 32 bits, where every digit is to be the definition's, the same pass is
`slot_cache.ExtendPass`.
"""

from typing import Any

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.triton_support import SHORT, kernels_run

WIDTHS = (16, 32, 64, 128, 256)  # of a head
MOST_GROUPS = 16  # query heads that share a KV head: the rows of the least product there is
BLOCK = 32  # slots at a time
WARPS, STAGES = 2, 3
NO_WINDOW = 1 << 30


def supported(slots: KVCache, query_heads: int) -> bool:
    """Whether the kernel takes caches like this one, under so many query heads."""
    keys = slots.keys[0]
    return (
        keys.dtype in SHORT
        and keys.shape[-1] in WIDTHS
        and query_heads // keys.shape[1] <= MOST_GROUPS
        and kernels_run(keys)
    )


class DecodePass:
    """A pass over one token at each of `positions` (int64 [R]), of the texts in the slots' `rows`
    (int64 [R], no row twice).

    `row_slots` (int64 [1]) are a row's slots in memory. The kernel reads them there, so that a
    recorded pass serves the same memory when it is divided among other rows.
    """

    def __init__(
        self, slots: KVCache, rows: Tensor, positions: Tensor, row_slots: Tensor | None = None
    ) -> None:
        self.slots, self.rows, self.positions = slots, rows, positions
        self.row_slots = rows.new_tensor([slots.tokens]) if row_slots is None else row_slots
        self._new: tuple[Tensor, Tensor] | None = None

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep K and V [R, H, 1, D] for the attention that follows; the slots of all."""
        self._new = key, value
        return self.slots.keys[layer], self.slots.values[layer]

    def attend(
        self, query: Tensor, keys: Tensor, values: Tensor, window: int | None, scale: float | None
    ) -> Tensor:
        """Attention of `query` [R, Hq, 1, D] to what `update` gave and to the new token, which is
        put into its slot; [R, 1, Hq, D]."""
        from c2c.decode_attention_kernel import attend_last

        assert self._new is not None
        key, value = self._new
        rows, heads, _, width = query.shape
        groups = heads // keys.shape[1]
        assert keys.is_contiguous() and values.is_contiguous()
        assert query.stride(3) == key.stride(3) == value.stride(3) == 1
        out = torch.empty((rows, 1, heads, width), dtype=query.dtype, device=query.device)
        with torch.cuda.device_of(query):  # Triton launches on the current device
            attend_last[rows, keys.shape[1]](
                query, key, value, keys, values, self.rows, self.row_slots, self.positions, out,
                width**-0.5 if scale is None else scale, window or NO_WINDOW,
                query.stride(0), query.stride(1), key.stride(0), key.stride(1),
                value.stride(0), value.stride(1),
                G=groups, ROWS=MOST_GROUPS, D=width, BLOCK=BLOCK,
                num_warps=WARPS, num_stages=STAGES,
            )  # fmt: skip
        return out
