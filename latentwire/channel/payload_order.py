"""Where each tensor's bytes stand in a payload: tensors that are coded together, in few copies.

A codec's fields of N tensors are made field by field, [N, B, length]; a payload has them tensor by
tensor. Tensors of one group that follow each other in the packet are a stretch, whose bytes of one
field lie at even distances: one strided copy. All tensors of a uniform codec are one stretch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from latentwire.channel.codec import Codec, Shape
from latentwire.channel.kernels.room import Room
from latentwire.channel.layout import Site

_WORDS = (torch.int64, torch.int32, torch.int16)  # widest first


@dataclass
class Stretch:
    """Tensors `first` to `stop - 1` of a group; the first's bytes begin at `start`."""

    first: int
    stop: int
    start: int


@dataclass
class Group:
    """Tensors of one codec and shape [H, T, D], in the packet's order."""

    codec: Codec
    shape: Shape
    sites: list[Site] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lengths = [each.length for each in self.codec.fields(self.shape)]
        self.size = sum(self.lengths)  # bytes of one tensor
        self.begins = [0, *accumulate(self.lengths)][:-1]  # where each field does
        self.starts: list[int] = []  # where each tensor's bytes do

    def append(self, site: Site, start: int) -> None:
        """The group's next tensor, whose bytes begin at `start`."""
        place, last = len(self.sites), self.stretches[-1] if self.stretches else None
        if last and last.start + (last.stop - last.first) * self.size == start:
            last.stop += 1
        else:
            self.stretches.append(Stretch(place, place + 1, start))
        self.sites.append(site)
        self.starts.append(start)

    def room(self, data: Tensor) -> Room:
        """Where the tensors' payloads stand in payloads uint8 [B, bytes], whose rows may lie
        apart."""
        return Room(data, self.starts, data.stride(0), self.begins)

    def write(self, parts: Sequence[Tensor], out: Tensor) -> None:
        """Put each field's bytes, uint8 [N, B, length], where they stand in payloads uint8
        [B, bytes], whose rows may lie apart."""
        for part, places in zip(parts, self._places(out), strict=True):
            for stretch, place in zip(self.stretches, places, strict=True):
                copy_bytes(part[stretch.first : stretch.stop], place)

    def read(self, data: Tensor) -> list[Tensor]:
        """Each field's bytes, uint8 [N, B, length] in memory of their own, out of payloads uint8
        [B, bytes]."""
        found = []
        for length, places in zip(self.lengths, self._places(data), strict=True):
            part = data.new_empty(len(self.sites), len(data), length)
            for stretch, place in zip(self.stretches, places, strict=True):
                copy_bytes(place, part[stretch.first : stretch.stop])
            found.append(part)
        return found

    def _places(self, data: Tensor) -> Iterator[list[Tensor]]:
        """Of each field where each stretch's bytes stand in payloads [B, bytes]: views
        [tensors of the stretch, B, length]."""
        begin = 0
        for length in self.lengths:
            yield [
                data[:, each.start : each.start + (each.stop - each.first) * self.size]
                .unflatten(1, (each.stop - each.first, self.size))[..., begin : begin + length]
                .transpose(0, 1)
                for each in self.stretches
            ]
            begin += length


def copy_bytes(source: Tensor, into: Tensor) -> None:
    """Copy bytes (uint8) by the widest words that both fit: a GPU copies what is strided one word a
    thread."""
    both = source, into
    steps = [n for x in both for n in (x.shape[-1], x.storage_offset(), *x.stride()[:-1])]
    for word in _WORDS if source.stride(-1) == into.stride(-1) == 1 else ():
        if all(number % word.itemsize == 0 for number in steps):
            into.view(word).copy_(source.view(word))
            return
    into.copy_(source)
