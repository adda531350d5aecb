"""All projectors of a pair, their gates, and the map from receiver to sharer layers."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from c2c.cache import Geometry, KVCache
from c2c.interface import KINDS, Interface, MergeLayer, Sent
from c2c.projector import Projector, ProjectorSize
from c2c.scatter_fused import add_change
from c2c.wide import take


class LayerSource(NamedTuple):
    """Where a receiver layer's fusion comes from."""

    sharer_layer: int
    projector: int


def last_aligned(receiver_layers: int, sharer_layers: int) -> dict[int, int]:
    """Receiver layer -> sharer layer: the last takes the last, and so on, clamped to the first."""
    shift = sharer_layers - receiver_layers
    return {t: max(0, t + shift) for t in range(receiver_layers)}


class Projectors(nn.Module, Interface):
    """Networks of receiver layers, and the map from each layer to its network and sharer layer."""

    def __init__(
        self,
        projectors: Sequence[nn.Module],
        layer_map: Mapping[int, LayerSource],
        sharer: Geometry,
        receiver: Geometry,
    ) -> None:
        super().__init__()
        self.projectors = nn.ModuleList(projectors)
        self.layer_map = dict(sorted(layer_map.items()))
        self.sharer = sharer
        self.receiver = receiver


class Fuser(Projectors):
    """Projectors and layer map; fuses one section of the sharer's cache into the receiver's."""

    def projector(self, layer: int) -> Projector:
        """The projector of a receiver layer that the map names."""
        projector = self.projectors[self.layer_map[layer].projector]
        assert isinstance(projector, Projector)
        return projector

    def layers_read(self, kind: str) -> tuple[int, ...]:
        """Sharer layers whose K (`key`) or V (`value`) an open gate reads, ascending.

        Nothing else need be sent; a layer mapped to several receiver layers stands here once.
        """
        return tuple(
            sorted(
                {
                    source.sharer_layer
                    for layer, source in self.layer_map.items()
                    if self.projector(layer).is_open(kind)
                }
            )
        )

    @property
    def sources(self) -> Mapping[int, int]:
        """Receiver layer -> sharer layer."""
        return {layer: source.sharer_layer for layer, source in self.layer_map.items()}

    def merge_layer(
        self, layer: int, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One receiver layer's K and V after fusion with its sharer layer's `key` and `value`."""
        projector = self.projector(layer)
        return projector("key", key, own_key), projector("value", value, own_value)

    def forward(self, sharer: KVCache, receiver_kv: KVCache) -> KVCache:
        """Fuse a section: `sharer` holds all its layers, `receiver_kv` the receiver's; same
        tokens."""
        return self.merge(sharer, receiver_kv)

    def describe(self) -> str:
        """How many gates are open."""
        opened = {kind: sum(kind == k for _, k in self._open_gates()) for kind in KINDS}
        return (
            f"gates open: keys {opened['key']} and values {opened['value']} of"
            f" {len(self.layer_map)} layers"
        )

    def batched(self) -> MergeLayer:
        """Only behind open gates. Those are asked once: each answer waits for the device."""
        assert not self.training
        return partial(self._merge_behind_gates, frozenset(self._open_gates()))

    def _open_gates(self) -> list[tuple[int, str]]:
        """(layer, kind) of each open gate."""
        gates = [(layer, kind) for layer in self.layer_map for kind in KINDS]
        return [(layer, kind) for layer, kind in gates if self.projector(layer).is_open(kind)]

    def _merge_behind_gates(
        self,
        open_gates: Collection[tuple[int, str]],
        layer: int,
        slots: KVCache,
        receiver_kv: KVCache,
        sent: Sent,
        tokens_at_once: int,
    ) -> None:
        """The receiver's part of the first maps is computed once for all that is sent, unless its
        caches are the slots, of which few tokens are asked for."""
        for kind in (kind for kind in KINDS if (layer, kind) in open_gates):
            projector, name = self.projector(layer), f"{kind}s"
            sharer, tokens = sent(self.layer_map[layer].sharer_layer, kind)
            if not len(sharer):
                continue
            layer_slots, layer_own = getattr(slots, name)[layer], getattr(receiver_kv, name)[layer]
            own_read = None if receiver_kv is slots else projector.read_own(kind, layer_own)
            for start in range(0, len(sharer), tokens_at_once):
                part = slice(start, start + tokens_at_once)
                example, position, row = (index[part] for index in tokens)
                if own_read is None:
                    mine = take(layer_own, (example, slice(None), position)).unsqueeze(2)
                    read = projector.read_own(kind, mine)[:, 0]
                else:
                    read = take(own_read, (example, position))
                weight, branch = projector.parts_of_tokens(kind, sharer[part].flatten(1), read)
                add_change(layer_slots, layer_own, weight, branch, row, example, position)


def new_fuser(sharer: Geometry, receiver: Geometry, size: ProjectorSize) -> Fuser:
    """An untrained fuser with one projector per receiver layer and the `last_aligned` map."""
    projectors = [Projector(sharer, receiver, size) for _ in range(receiver.layers)]
    layers = last_aligned(receiver.layers, sharer.layers)
    return Fuser(projectors, {t: LayerSource(s, t) for t, s in layers.items()}, sharer, receiver)
