"""What is taken from tensors before they are coded, and added to what arrives: see `turbo`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from c2c.on_device import on_device


@dataclass(frozen=True)
class Means:
    """The means of N tensors [B, H, T, D] at their tokens' positions: tensor n's are
    `table[layers[n], :, at[lists[n]]]`, and none where its layer is negative."""

    table: Tensor  # float32 [L, H, P, D], without gaps
    largest: float  # no magnitude in it is larger
    layers: Sequence[int]
    lists: Sequence[int]
    at: Tensor  # int64 [lists, B, T] on the host, or [lists, 1, T] where all examples are alike

    def of(self, places: Sequence[int]) -> "Means":
        """Of some of the tensors."""
        layers, lists = ([each[n] for n in places] for each in (self.layers, self.lists))
        return replace(self, layers=layers, lists=lists)

    def moved(
        self, tensors: Sequence[Tensor], by: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        """The tensors with their means taken (`torch.sub`) or added (`torch.add`), float32; those
        without any as they are."""
        found = [*tensors]
        for number, at in enumerate(self.at):
            own = [n for n, each in enumerate(self.lists) if each == number and self.layers[n] >= 0]
            if not own:
                continue
            layers = [self.layers[n] for n in own]
            everything = layers == [*range(len(self.table))]
            table = self.table if everything else torch.stack([self.table[n] for n in layers])
            means = table[:, :, on_device(at, table.device)].transpose(1, 2)
            arrived = by(torch.stack([tensors[n] for n in own]), means)
            for n, tensor in zip(own, arrived.unbind(), strict=True):
                found[n] = tensor
        return found
