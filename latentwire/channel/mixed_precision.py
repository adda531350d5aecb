"""A schedule: another codec for some layers, or for keys alone or values alone.

Written as a codec and its exceptions, `int4/last2:bf16` or `int2/keys:int4/0-3:int8`; the last
exception that fits a tensor holds. `lastN` and `firstN` count the sharer's layers, `3` is one of
them and `0-3` a range; `keys0-3` and `valueslast2` are the keys or values of these alone.

Parameters in the packet: for each stretch of tensors (in the packet's order) that have one codec,
its number (1 byte) and how many tensors (varint). Payload: each tensor's, by its own codec.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import groupby

import torch
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel.device_codec import DeviceCodec
from latentwire.channel.header_fields import PacketError, Reader, varint
from latentwire.channel.layout import Layout, Site
from latentwire.channel.per_tensor import PerTensor

NUMBER = 48
MOST_LISTED = 32  # stretches that the name of a packet's schedule lists
_NUMBER = r"(0|[1-9]\d{0,4})"
_LAYERS = rf"(?:first|last)[1-9]\d{{0,4}}|{_NUMBER}(?:-{_NUMBER})?"
_PATTERN = re.compile(rf"(?P<kind>keys|values)?(?P<layers>{_LAYERS})?")

Fits = Callable[[str, int, int], bool]  # kind, layer, layers of the sharer


class ScheduleError(ValueError):
    """A text that is no schedule; it says what is wrong."""


@dataclass(frozen=True)
class Schedule(DeviceCodec):
    """Codecs by tensor, chosen by rules (on the sending side) or read from a packet."""

    name: str
    choose: Callable[[Site, int], PerTensor]  # of a tensor, given the sharer's layers
    number: int = NUMBER
    bits: float | None = None
    # By the sharer's layers: packets are made one after the other.
    _known: dict[int, PerTensor] = field(default_factory=dict, compare=False, repr=False)

    def parameters(self, layout: Layout) -> bytes:
        numbers = [self.choose(site, layout.geometry.layers).number for site in layout.sent]
        return b"".join(
            bytes([number]) + varint(len(list(stretch))) for number, stretch in groupby(numbers)
        )

    def write(self, cache: KVCache, layout: Layout, out: Tensor, broken: Tensor) -> None:
        self._at(layout).write(cache, layout, out, broken)

    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        return self._at(layout).written_alone(cache, layout)

    def read(self, data: Tensor, layout: Layout, dtype: torch.dtype, broken: Tensor) -> KVCache:
        return self._at(layout).read(data, layout, dtype, broken)

    def refuse(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        self._at(layout).refuse(data, layout, dtype)

    def payload_bytes(self, layout: Layout) -> int:
        return self._at(layout).payload_bytes(layout)

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        return self._at(layouts[0]).round_trip(cache, layouts)

    def _at(self, layout: Layout) -> PerTensor:
        layers = layout.geometry.layers
        if layers not in self._known:
            self._known[layers] = PerTensor(
                self.name,
                self.number,
                self.bits,
                lambda kind, layer: self.choose((kind, layer), layers).at(kind, layer),
            )
        return self._known[layers]


def parse(text: str, codec: Callable[[str], PerTensor]) -> Schedule:
    """The schedule that `text` spells; ScheduleError for one that is none.

    `codec` gives a tensor codec by name, and raises for a name that has none.
    """
    base, *exceptions = text.split("/")
    default = codec(base)
    rules: list[tuple[Fits, PerTensor]] = []
    for exception in exceptions:
        where, _, name = exception.partition(":")
        if not name or not where or not _PATTERN.fullmatch(where):
            raise ScheduleError(
                f"{exception!r} is no exception of a schedule: write keys, values, lastN, firstN,"
                " a layer or a range of layers, or keys or values of these (keys0-3), a colon and a"
                " codec, as in int4/last2:bf16"
            )
        rules.append((_fits(where), codec(name)))

    @cache
    def choose(site: Site, layers: int) -> PerTensor:
        fitting = [codec for fits, codec in rules if fits(*site, layers)]
        return fitting[-1] if fitting else default

    return Schedule(text, choose)


def _fits(where: str) -> Fits:
    parts = _PATTERN.fullmatch(where)
    assert parts
    kinds, within = parts["kind"], _within(parts["layers"])
    return lambda kind, layer, layers: kinds in (None, f"{kind}s") and within(layer, layers)


def _within(where: str | None) -> Callable[[int, int], bool]:
    """Whether a layer, of so many, is among those that `where` names (None: all)."""
    if where is None:
        return lambda layer, layers: True
    if where.startswith("first"):
        first = int(where.removeprefix("first"))
        return lambda layer, layers: layer < first
    if where.startswith("last"):
        last = int(where.removeprefix("last"))
        return lambda layer, layers: layer >= layers - last
    start, _, stop = where.partition("-")
    low, high = int(start), int(stop or start)
    if high < low:
        raise ScheduleError(f"{where!r} is a range of layers that ends before it starts")
    return lambda layer, layers: low <= layer <= high


def read(reader: Reader, layout: Layout, by_number: Mapping[int, PerTensor]) -> Schedule:
    """The schedule of a packet, from its parameters; PacketError for what nobody writes."""
    stretches: list[tuple[PerTensor, int]] = []
    rest = len(layout.sent)
    while rest:
        number, count = reader.byte(), reader.varint()
        if number not in by_number:
            raise PacketError(f"codec number {number} cannot be part of a schedule")
        if not 0 < count <= rest:
            raise PacketError("the schedule does not fit the tensors sent")
        if stretches and stretches[-1][0].number == number:
            raise PacketError("two stretches of a schedule have one codec")
        stretches.append((by_number[number], count))
        rest -= count
    return _of_stretches(tuple(stretches), layout.sent)


@lru_cache(1 << 6)  # packets of one schedule come one after the other
def _of_stretches(stretches: tuple[tuple[PerTensor, int], ...], sent: tuple[Site, ...]) -> Schedule:
    chosen = [codec for codec, count in stretches for _ in range(count)]
    by_site = dict(zip(sent, chosen, strict=True))
    listed = [f"{count} {codec.name}" for codec, count in stretches[:MOST_LISTED]]
    more = len(stretches) - len(listed)
    name = "schedule of " + ", ".join(listed) + (f" and {more} more" if more else "")
    return Schedule(name, lambda site, layers: by_site[site])
