"""A fuser as a training has it: its layers' weights in one tensor by name, computed together.

A fuser is dozens of small networks. One after the other they keep a GPU waiting for calls, in both
passes and in the optimizer; together they are one network whose products have one more dimension.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from c2c.cache import KVCache
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.interface import KINDS, Interface
from c2c.projector import Projector


class StackedFuser(nn.Module, Interface):
    """The weights of `fuser` in training; `fuser` stays in step, its weights are views of these.

    Raises C2CError for a fuser whose projectors are not of one size.
    """

    def __init__(self, fuser: Fuser) -> None:
        super().__init__()
        self.sharer, self._sources = fuser.sharer, fuser.sources
        self._projector_of = {layer: s.projector for layer, s in fuser.layer_map.items()}
        projectors = [p for p in fuser.projectors if isinstance(p, Projector)]
        if len({projector.size for projector in projectors}) != 1:
            raise C2CError("a fuser whose projectors differ in size cannot be trained")
        states = [dict(projector.named_parameters()) for projector in projectors]
        self._names = list(states[0])
        self._weights = nn.ParameterList()
        for name in self._names:
            weight = nn.Parameter(torch.stack([state[name].detach() for state in states]))
            self._weights.append(weight)
            for state, view in zip(states, weight.detach(), strict=True):
                state[name].data = view
        self._temperature = projectors[0].gate_temperature.clone()
        for projector in projectors:
            projector.gate_temperature = self._temperature
        # Only what it computes is wanted of it: as a list's item it is no part of this module.
        self._network = [copy.deepcopy(projectors[0]).to("meta").train()]

    def weights(self) -> dict[str, nn.Parameter]:
        """Name in a projector -> the weights of all P projectors, [P, ...]."""
        return dict(zip(self._names, self._weights, strict=True))

    def gate_logits(self) -> Tensor:
        """Of each projector and kind, [P, 2]."""
        weights = self.weights()
        return torch.stack([weights[f"{kind}_gate_logit"] for kind in KINDS], dim=1)

    def set_temperature(self, value: float) -> None:
        """The soft gates', from here on."""
        self._temperature.fill_(value)

    def spoilt(self) -> list[str]:
        """Parameters of the fuser whose gradients are not finite."""
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

    @property
    def sources(self) -> Mapping[int, int]:
        """Receiver layer -> sharer layer."""
        return self._sources

    def merge(self, received: KVCache, own: KVCache) -> KVCache:
        """What the projectors, one by one, make of the section."""
        return KVCache(*(self._merge_kind(kind, received, own) for kind in KINDS))

    def _merge_kind(self, kind: str, received: KVCache, own: KVCache) -> tuple[Tensor, ...]:
        layers, sent = list(getattr(own, f"{kind}s")), getattr(received, f"{kind}s")
        of_kind: dict[str, Tensor] = {
            name: weight for name, weight in self.weights().items() if name.startswith(kind)
        }
        order = list(self._projector_of.values())
        if order != list(range(len(self._weights[0]))):
            of_kind = {name: weight[order] for name, weight in of_kind.items()}

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
