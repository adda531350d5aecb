"""Projectors as a training has them: all layers' weights in one tensor by name, computed together.

A fuser, or a prefix, is dozens of small networks. One after the other they keep a GPU waiting for
calls, in both passes and in the optimizer; together they are one network whose products have one
more dimension.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from c2c.cache import KVCache
from c2c.errors import C2CError
from c2c.fuser import Fuser, Projectors
from c2c.interface import KINDS, Interface
from c2c.prefix_projector import ProjectedPrefix, as_layer, flattened
from c2c.projector import Projector


class Stacked(nn.Module, Interface):
    """The weights of `projectors` in training; these stay in step, their weights are views of its.

    Raises C2CError for projectors that are not of one size.
    """

    def __init__(self, projectors: Projectors) -> None:
        super().__init__()
        self.sharer, self.receiver = projectors.sharer, projectors.receiver
        self._sources = {layer: s.sharer_layer for layer, s in projectors.layer_map.items()}
        self._projector_of = {layer: s.projector for layer, s in projectors.layer_map.items()}
        networks = list(projectors.projectors)
        if len({network.size for network in networks}) != 1:
            raise C2CError("a fuser whose projectors differ in size cannot be trained")
        states = [dict(network.named_parameters()) for network in networks]
        self._names = list(states[0])
        self._weights = nn.ParameterList(nn.Parameter(_stacked(states, n)) for n in self._names)
        for name, weight in self.weights().items():
            _view(states, name, weight.detach())
        # Only what it computes is wanted of it: as a list's item it is no part of this module.
        self._network = [copy.deepcopy(networks[0]).to("meta").train()]

    def weights(self) -> dict[str, nn.Parameter]:
        """Name in a projector -> the weights of all P projectors, [P, ...]."""
        return dict(zip(self._names, self._weights, strict=True))

    def by_layer(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the projectors [P, ...] as those of the receiver's layers."""
        order = list(self._projector_of.values())
        if order == list(range(len(self._weights[0]))):
            return dict(tensors)
        return {name: tensor[order] for name, tensor in tensors.items()}

    def gate_logits(self) -> Tensor:
        """Of each projector and kind, [P, 2]; none where there are no gates."""
        return torch.zeros(0)

    def set_temperature(self, value: float) -> None:
        """The soft gates', from here on."""

    def spoilt(self) -> list[str]:
        """Parameters of the projectors whose gradients are not finite."""
        return [
            f"projectors.{index}.{name}"
            for name, weight in self.weights().items()
            if weight.grad is not None
            for index, grad in enumerate(weight.grad)
            if not bool(grad.isfinite().all())
        ]

    def layers_read(self, kind: str) -> tuple[int, ...]:
        """All that are mapped: which gates will be open is not known yet."""
        return tuple(sorted(set(self._sources.values())))


class StackedPrefix(Stacked):
    """See `ProjectedPrefix`."""

    inserts = True

    def __init__(self, prefix: ProjectedPrefix) -> None:
        super().__init__(prefix)
        states = [dict(network.named_buffers()) for network in prefix.projectors]
        for name in states[0]:
            self.register_buffer(name, _stacked(states, name))
            _view(states, name, self.get_buffer(name))

    def prepare(self, received: KVCache, positions: Tensor) -> KVCache:
        """What the projectors, one by one, make of what was received."""
        buffers = dict(self.named_buffers())
        frequencies = [buffers.pop(f"{name}_frequencies")[0] for name in ("sharer", "receiver")]
        sent_key, sent_value = (
            torch.stack([tensors[source] for source in self._sources.values()])
            for tensors in (received.keys, received.values)
        )
        read = flattened(sent_key, sent_value, positions, frequencies[0])

        def make_one(tensors: Mapping[str, Tensor], read: Tensor) -> Tensor:
            result: Tensor = functional_call(self._network[0], dict(tensors), (read,))
            return result

        stacked = self.by_layer({**self.weights(), **buffers})
        made = vmap(make_one, randomness="different")(stacked, read)
        key, value = as_layer(made, self.receiver, positions, frequencies[1])
        return KVCache(*(tuple(x.to(sent_key.dtype)) for x in (key, value)))


class StackedFuser(Stacked):
    """See `Fuser`."""

    def __init__(self, fuser: Fuser) -> None:
        super().__init__(fuser)
        projectors = [p for p in fuser.projectors if isinstance(p, Projector)]
        self._temperature = projectors[0].gate_temperature.clone()
        for projector in projectors:
            projector.gate_temperature = self._temperature

    def gate_logits(self) -> Tensor:
        """See `Stacked`."""
        weights = self.weights()
        return torch.stack([weights[f"{kind}_gate_logit"] for kind in KINDS], dim=1)

    def set_temperature(self, value: float) -> None:
        """See `Stacked`."""
        self._temperature.fill_(value)

    @property
    def sources(self) -> Mapping[int, int]:
        """Receiver layer -> sharer layer."""
        return self._sources

    def merge(self, received: KVCache, own: KVCache) -> KVCache:
        """What the projectors, one by one, make of the section."""
        return KVCache(*(self._merge_kind(kind, received, own) for kind in KINDS))

    def _merge_kind(self, kind: str, received: KVCache, own: KVCache) -> tuple[Tensor, ...]:
        layers, sent = list(getattr(own, f"{kind}s")), getattr(received, f"{kind}s")
        of_kind = self.by_layer(
            {name: weight for name, weight in self.weights().items() if name.startswith(kind)}
        )

        def merge_one(weights: Mapping[str, Tensor], sharer: Tensor, receiver_kv: Tensor) -> Tensor:
            shared = {"gate_temperature": self._temperature}
            named = {**weights, **shared}
            return functional_call(self._network[0], named, (kind, sharer, receiver_kv))

        merged = vmap(merge_one, randomness="different")(
            of_kind,
            torch.stack([sent[source] for source in self._sources.values()]),
            torch.stack([layers[layer] for layer in self._projector_of]),
        )
        for layer, tensor in zip(self._projector_of, merged, strict=True):
            layers[layer] = tensor
        return tuple(layers)


def _stacked(states: Sequence[Mapping[str, Tensor]], name: str) -> Tensor:
    return torch.stack([state[name].detach() for state in states])


def _view(states: Sequence[Mapping[str, Tensor]], name: str, stacked: Tensor) -> None:
    """Have the tensor `name` of each state be its part of `stacked`."""
    for state, part in zip(states, stacked, strict=True):
        state[name].data = part
