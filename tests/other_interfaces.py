"""Interfaces that are not C2C's, to see that nothing but the protocol is known of one."""

from collections.abc import Mapping

from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.interface import Interface


class Average(Interface):
    """Merges keys, and values of one layer, by their mean; the models' caches have one shape.

    The receiver's first layer is left alone, its last takes the sharer's first.
    """

    def __init__(self, sharer: Geometry) -> None:
        self.sharer = sharer

    @property
    def sources(self) -> Mapping[int, int]:
        return {**{layer: layer for layer in range(1, self.sharer.layers - 1)}, self._last: 0}

    @property
    def _last(self) -> int:
        return self.sharer.layers - 1

    def layers_read(self, kind: str) -> tuple[int, ...]:
        return tuple(sorted(self.sources.values())) if kind == "key" else (0,)

    def merge_layer(
        self, layer: int, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        if layer != self._last:
            return (key + own_key) / 2, own_value
        return (key + own_key) / 2, (value + own_value) / 2


class Front(Interface):
    """Puts what arrived in front of the receiver's prompt, values halved."""

    inserts = True

    def __init__(self, sharer: Geometry) -> None:
        self.sharer = sharer

    def layers_read(self, kind: str) -> tuple[int, ...]:
        return tuple(range(self.sharer.layers))

    def prepare(self, received: KVCache, positions: Tensor) -> KVCache:
        return KVCache(received.keys, tuple(value / 2 for value in received.values))
