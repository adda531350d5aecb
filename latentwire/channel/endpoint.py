"""Both ends of the wire for one pair: what is sent, and how it arrives."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.interface import Interface
from c2c.on_device import on_device
from c2c.sections import Runs, runs_of
from latentwire.channel import stacked
from latentwire.channel.cache_codec import CacheCodec, EmbeddedCodec, is_embedded
from latentwire.channel.calibration import Calibration
from latentwire.channel.codec import CodecError
from latentwire.channel.layer_runs import LayerRuns
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import (
    IDENTITY_BYTES,
    MOST_TOKENS,
    Header,
    PacketError,
    cut,
    decode,
    decode_header,
    encode,
    packet_bytes,
)
from latentwire.channel.packet_lengths import PacketLayouts
from latentwire.channel.positions import Positions
from latentwire.channel.registry import codec
from latentwire.channel.sent_rows import SentRows
from latentwire.channel.tokens_of_runs import tokens_of_rows
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

MOST_KNOWN = 1 << 14  # layouts


Sizes = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Arrived:
    """A batch after the channel."""

    kept: SentRows  # of each row
    cache: KVCache  # those tokens, [B, H, K, D]; rows that keep fewer than K are filled up
    sizes: Callable[[], Sizes]  # `wire_bytes` and `elements`: no device waits for them
    doubtful: Tensor  # bool [B], on the cache's device: rows that may be refused; see `refusals`
    chosen: SentRows  # what the cache's rows are, those that are refused too

    @cached_property
    def _sizes(self) -> Sizes:
        return self.sizes()

    @property
    def wire_bytes(self) -> list[int]:
        """Length of each row's packet."""
        return self._sizes[0]

    @property
    def elements(self) -> list[int]:
        """Numbers that each packet stands for."""
        return self._sizes[1]


@dataclass(frozen=True)
class Endpoint:
    """What sharer and receiver of a pair have agreed on before the first packet."""

    identity: bytes  # 8 bytes that name the pair
    geometry: Geometry  # of the sharer's cache
    key_layers: tuple[int, ...]  # sharer layers whose K the interface reads
    value_layers: tuple[int, ...]
    calibration: Calibration | None = None
    inserts: bool = False  # the receiver's prompt stands behind the sharer's: it may be told where

    @classmethod
    def of(
        cls, interface: Interface, identity: bytes, calibration: Calibration | None = None
    ) -> "Endpoint":
        """The endpoint that serves `interface`: nothing that it does not read is sent."""
        keys, values = (interface.layers_read(kind) for kind in ("key", "value"))
        return cls(identity, interface.sharer, keys, values, calibration, interface.inserts)

    def header(self, channel: Channel, positions: Positions) -> Header | None:
        """Header of the packet for the tokens at `positions`; None where none of them is sent."""
        layout = self._layout(positions)
        return Header(self._codec(channel), self.identity, layout) if layout else None

    def _layout(self, positions: Positions) -> Layout | None:
        if not positions.sections:
            return None
        by_layer: Sequence[Runs] = ()
        if positions.by_layer:
            read = {*self.key_layers, *self.value_layers}
            sent = LayerRuns.of(positions.by_layer).only(read)
            by_layer = () if sent.are(positions.sections, read) else sent
            if by_layer and not len(sent.table):
                return None
        return Layout(
            self.geometry,
            self.key_layers,
            self.value_layers,
            positions.sections,
            by_layer=by_layer,
            text_tokens=positions.text_tokens,
            classes=positions.classes,
        )

    def _layouts(self, chosen: SentRows) -> PacketLayouts:
        """Of each row of a batch."""
        mine = self.geometry, self.key_layers, self.value_layers
        return chosen.once(("layouts", *mine), lambda: self._made_layouts(chosen, _known(*mine)))

    def _made_layouts(
        self, chosen: SentRows, known: dict[Positions, Layout | None]
    ) -> PacketLayouts:
        def layout(row: Positions) -> Layout | None:
            if row.by_layer or not row.sections:  # as good as never the same, or none
                return self._layout(row)
            found = known.get(row)
            if found is None:
                known[row] = found = self._layout(row)
            return found

        if len(known) > MOST_KNOWN:
            known.clear()
        return PacketLayouts([*map(layout, chosen)])

    def send(self, channel: Channel, cache: KVCache, positions: Positions) -> bytes:
        """The packet for one example's instruction cache (tensors [1, H, n-1, D]), the tokens at
        `positions` of it; b"" for none."""
        header = self.header(channel, positions)
        if not header:
            return b""
        packet = encode(gather(cache, SentRows([positions])), header)
        most_bytes = positions.most_bytes
        return cut(packet, most_bytes, self.calibration) if most_bytes else packet

    def packet_lengths(
        self, channel: Channel, cache: KVCache, chosen: Sequence[Positions]
    ) -> list[int]:
        """How long `send` would make each packet of a batch (see `simulate`, and its errors), 0
        where nothing goes: without a look at `cache` where no numbers matter."""
        known = self._layouts(SentRows.of(chosen)).packet_bytes(self._codec(channel))
        asked = [row for row, length in enumerate(known) if length is None]
        found: Iterator[int] = iter(())
        if asked:
            rows = cache.pick(on_device(torch.tensor(asked), cache.keys[0].device))
            arrived = self.simulate(channel, rows, [chosen[row] for row in asked], check=False)
            found = iter(arrived.wire_bytes)
        return [next(found) if length is None else length for length in known]

    def is_embedded(self, channel: Channel) -> bool:
        """Whether a packet's stream may end anywhere."""
        return is_embedded(self._codec(channel))

    def least_bytes(self, channel: Channel, chosen: Sequence[Positions]) -> list[int]:
        """Of each of several packets of an `EmbeddedCodec`; 0 where nothing goes."""
        codec, layouts = _embedded(self._codec(channel)), self._layouts(SentRows.of(chosen))
        both = zip(layouts.rows, layouts.around_bytes(codec), strict=True)
        return [around + (codec.least_bytes(own) if own else 0) for own, around in both]

    def whole_bytes(self, tokens: Iterable[int]) -> int:
        """Length of the packet of those tokens of all that the interface reads, in 16 bits."""
        sections = runs_of(tokens)
        return _whole_bytes(self.geometry, self.key_layers, self.value_layers, sections)

    def elements(self, packet: bytes) -> int:
        """Numbers of the sharer's cache that a packet stands for, 0 where none was sent."""
        if not packet:
            return 0
        header, _ = decode_header(packet, self.calibration, MOST_TOKENS)  # no number is unpacked
        return header.layout.elements

    def receive(
        self, packet: bytes, prompt_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Layout, KVCache]:
        """What a packet that is not empty says was sent, and its tokens (tensors [1, H, T, D]).

        Raises PacketError for anything but a packet of this link for a prompt of that length.
        """
        header, cache = decode(
            packet, self.geometry, self.identity, dtype, self.calibration, prompt_tokens - 1, device
        )
        layout = header.layout
        if (layout.key_layers, layout.value_layers) != (self.key_layers, self.value_layers):
            raise PacketError("the packet does not hold the layers that the fuser reads")
        if layout.kept.end >= prompt_tokens:
            raise PacketError("the packet's tokens do not fit the prompt")
        if layout.text_tokens and not self.inserts:
            raise PacketError("the packet tells where a prompt begins that has its own place here")
        if layout.first_position:
            raise PacketError("the packet's prompt does not stand at the conversation's start")
        return layout, cache

    def simulate(
        self, channel: Channel, cache: KVCache, chosen: Sequence[Positions], check: bool = True
    ) -> Arrived:
        """What `receive` would give for each example of a batch, and how long its packet would be.

        `cache` holds instructions (tensors [B, H, T, D]), of which row b sends `chosen[b]`. Rows
        are filled up by repeating their last kept token, which moves no minimum or maximum that a
        codec takes over a row's tokens.

        Raises PacketError for a row whose packet is refused, in the same words, for which it waits
        for the device; with `check` False it does neither, and `refusals` are the caller's to ask
        for before it uses what arrived.
        """
        (arrived,) = self.simulate_each([channel], cache, SentRows.of(chosen))
        if check:
            doubtful = arrived.doubtful.tolist()
            for error in self.refusals(channel, cache, chosen, doubtful).values():
                raise error
        return arrived

    def simulate_each(
        self, channels: Sequence[Channel], cache: KVCache, chosen: SentRows
    ) -> list[Arrived]:
        """`simulate` through each of several channels, without its check. What of a cache goes is
        taken out of it, and looked at, once."""
        section = gather(cache, chosen)
        layouts = self._layouts(chosen)
        sure = torch.zeros(len(chosen), dtype=torch.bool, device=section.keys[0].device)
        if not layouts.told:
            nothing = [0] * len(chosen)
            kept = SentRows([Positions()] * len(chosen))
            return [
                Arrived(kept, section, lambda: (nothing, nothing), sure, chosen) for _ in channels
            ]
        arrived = [self._arrived(each, cache, section, chosen, sure) for each in channels]
        # What is no number is looked for in all of them at once, but for those of fewer rows.
        caches = [each.cache for each in arrived if each.chosen is chosen]
        broken, *behind = _no_numbers([section, *caches], layouts.told[0])
        own = iter(behind)
        return [
            replace(each, doubtful=broken | next(own)) if each.chosen is chosen else each
            for each in arrived
        ]

    def refusals(
        self,
        channel: Channel,
        cache: KVCache,
        chosen: Sequence[Positions],
        doubtful: Sequence[bool],
    ) -> dict[int, PacketError]:
        """Why rows of a batch are refused, by row: their packets' own words. Rows that are not
        `doubtful` are not looked at; arguments as for `simulate`."""
        refused = {}
        for row in (row for row, doubt in enumerate(doubtful) if doubt):
            try:
                packet = self.send(channel, cache.rows(row, row + 1), chosen[row])
                if packet:
                    self.receive(packet, cache.tokens + 1, cache.keys[0].dtype, torch.device("cpu"))
            except PacketError as error:
                refused[row] = error
        return refused

    def _arrived(
        self, channel: Channel, cache: KVCache, section: KVCache, chosen: SentRows, sure: Tensor
    ) -> Arrived:
        """What arrives of the `section` of a cache that is chosen; nobody has looked at its numbers
        yet, and its rows are taken for `sure`."""
        codec, layouts, most = self._codec(channel), self._layouts(chosen), None
        if any(each.most_bytes for each in chosen):
            told = zip(chosen, layouts.around_bytes(codec), layouts.there, strict=True)
            most = [there * (each.most_bytes - around) for each, around, there in told]
        try:
            arrived, lengths = _round_trip(codec, section, layouts.filled, most)
        except CodecError as error:
            if not (refused := self.refusals(channel, cache, chosen, layouts.there)):
                raise PacketError(str(error)) from None
            return self._without(refused, channel, cache, chosen)

        def sizes() -> Sizes:
            told = zip(layouts.around_bytes(codec), layouts.there, lengths, strict=True)
            return [around + there * length for around, there, length in told], layouts.elements

        return Arrived(self._kept(chosen), arrived, sizes, sure, chosen)

    def _kept(self, chosen: SentRows) -> SentRows:
        """Nothing in rows of which nothing goes, whatever they say."""
        layouts = self._layouts(chosen)
        if layouts.whole:
            return chosen
        told = zip(chosen, layouts.there, strict=True)
        rows = SentRows(each if there else Positions() for each, there in told)
        return chosen if rows == chosen else rows

    def _without(
        self,
        refused: Collection[int],
        channel: Channel,
        cache: KVCache,
        chosen: SentRows,
    ) -> Arrived:
        """The batch where the rows that are refused send nothing; they are doubtful, so that their
        packets say why."""
        rest = [Positions() if row in refused else each for row, each in enumerate(chosen)]
        (arrived,) = self.simulate_each([channel], cache, SentRows(rest))
        rows = on_device(torch.tensor([*refused]), arrived.doubtful.device)
        return replace(arrived, doubtful=arrived.doubtful.index_fill(0, rows, True))

    def _codec(self, channel: Channel) -> CacheCodec:
        found = self.calibration.hash if self.calibration else ""
        if channel.calibration and channel.calibration != found:
            raise LatentWireError(
                f"{channel.codec} is to use calibration {channel.calibration}, but"
                f" {found or 'none'} is loaded"
            )
        return codec(channel.codec, self.calibration if channel.calibration else None)


@lru_cache(1 << 4)
def _known(
    geometry: Geometry, key_layers: tuple[int, ...], value_layers: tuple[int, ...]
) -> dict[Positions, Layout | None]:
    """Layouts of what all layers send alike: questions of one length have them in common."""
    return {}


def _embedded(codec: CacheCodec) -> EmbeddedCodec:
    assert isinstance(codec, EmbeddedCodec)
    return codec


def _round_trip(
    codec: CacheCodec, section: KVCache, layouts: Sequence[Layout], most_bytes: Sequence[int] | None
) -> tuple[KVCache, Sequence[int]]:
    """The codec's; with `most_bytes` of payloads that end there, 0 for the least."""
    if most_bytes is None:
        return codec.round_trip(section, layouts)
    found = _embedded(codec)
    most = [
        each or found.least_bytes(layout) for each, layout in zip(most_bytes, layouts, strict=True)
    ]
    return found.round_trip(section, layouts, most)


@lru_cache(1 << 12)  # asked of each question, for its budget and for its record
def _whole_bytes(geometry: Geometry, *layers_and_runs: Any) -> int:
    layout = Layout(geometry, *layers_and_runs)
    header = Header(codec("bf16"), bytes(IDENTITY_BYTES), layout)
    return (packet_bytes(header) or 0) if layout.runs else 0


def _no_numbers(caches: Sequence[KVCache], layout: Layout) -> Tensor:
    """Which rows of each cache hold NaN or infinity in any tensor that may be sent: bool [C, B].
    Waits for no device."""
    tensors = [[tensor_of(cache, *site) for site in layout.sites] for cache in caches]
    if not layout.sites:
        first = caches[0].keys[0]
        return torch.zeros(len(caches), len(first), dtype=torch.bool, device=first.device)
    return stacked.no_numbers(tensors)


def gather(cache: KVCache, chosen: SentRows) -> KVCache:
    """Each row's tokens at its positions [B, H, K, D], K the longest of the layer; shorter rows
    repeat their last (a row of none its first)."""
    first = chosen[0]
    if chosen.alike and not first.by_layer and len(first.sections) <= 1:  # a view serves
        (run,) = first.sections or (range(0),)
        return cache.section(run.start, run.stop)
    index, most = tokens_of_rows(chosen, cache.layers if chosen.differ else 1, cache.keys[0].device)
    cut = stacked.take([*cache.keys, *cache.values], index)
    if min(most) < max(most):
        cut = [x[:, :, : most[number % len(most)]] for number, x in enumerate(cut)]
    return KVCache(tuple(cut[: cache.layers]), tuple(cut[cache.layers :]))
