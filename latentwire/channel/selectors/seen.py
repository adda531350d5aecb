"""What of a message a sender has, and what selectors have worked out of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast, overload

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.on_device import on_device, on_host
from latentwire.channel.selectors.ranked import Ranked, Ranks


@dataclass(frozen=True)
class _Cut(Sequence[Tensor]):
    """One example's tokens of a batch's tensors [B, H, T, D], each cut out when it is asked for:
    most selectors ask for none, of a thousand examples of dozens of tensors."""

    tensors: Sequence[Tensor]
    row: int
    tokens: int

    def __len__(self) -> int:
        return len(self.tensors)

    @overload
    def __getitem__(self, layer: int) -> Tensor: ...
    @overload
    def __getitem__(self, layer: slice) -> "_Cut": ...
    def __getitem__(self, layer: int | slice) -> "Tensor | _Cut":
        if isinstance(layer, slice):
            return _Cut(self.tensors[layer], self.row, self.tokens)
        return self.tensors[layer][self.row : self.row + 1, :, : self.tokens]


@dataclass(frozen=True)
class Seen(KVCache):
    """One example's cache [1, H, T, D], with the ranks that are known of it."""

    ranks: dict[Ranked, Ranks] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, cache: KVCache, ranks: dict[Ranked, Ranks] | None = None) -> "Seen":
        return cls(cache.keys, cache.values, cache.queries, {} if ranks is None else ranks)

    @classmethod
    def of_row(cls, cache: KVCache, row: int, tokens: int, ranks: dict[Ranked, Ranks]) -> "Seen":
        """Of a batch's caches that of one row, of so many tokens."""

        def cut(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return cast(tuple[Tensor, ...], _Cut(tensors, row, tokens))

        return cls(cut(cache.keys), cut(cache.values), cut(cache.queries), ranks)


def ranks_of(selector: Ranked, cache: KVCache) -> Ranks:
    """The ranks of one example's cache [1, H, T, D]; a `Seen` one keeps them."""
    known = cache.ranks if isinstance(cache, Seen) else {}
    if selector not in known:
        known |= ranks_of_rows([selector], cache, [cache.tokens])[0]
    return known[selector]


def ranks_of_rows(
    selectors: Iterable[Ranked], cache: KVCache, tokens: Sequence[int]
) -> list[dict[Ranked, Ranks]]:
    """Each example's ranks under each selector. `cache` is [B, H, T, D], of which row b has
    tokens[b] tokens. Waits for the device once, for all of them."""
    return begin_ranks(selectors, cache, tokens)()


def begin_ranks(
    selectors: Iterable[Ranked], cache: KVCache, tokens: Sequence[int]
) -> Callable[[], list[dict[Ranked, Ranks]]]:
    """Gives `ranks_of_rows`, which a device works out while other things are asked of it."""
    asked = dict.fromkeys(selectors)
    if not asked:
        return lambda: [{} for _ in tokens]
    counts = on_device(torch.tensor(tokens), cache.keys[0].device)
    orders = {selector: selector.order(cache, counts) for selector in asked}
    sizes = [order.numel() for order in orders.values()]
    shapes = [order.shape for order in orders.values()]
    there = on_host(torch.cat([order.flatten() for order in orders.values()]))

    def ranks() -> list[dict[Ranked, Ranks]]:
        parts = zip(there().split(sizes), shapes, strict=True)
        found = [part.view(shape).numpy() for part, shape in parts]
        return [
            {selector: own[:, row] for selector, own in zip(asked, found, strict=True)}
            for row in range(len(tokens))
        ]

    return ranks
