"""Both ends of the wire for one pair: what is sent, and how it arrives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.interface import Interface
from latentwire.channel.cache_codec import CacheCodec
from latentwire.channel.calibration import Calibration
from latentwire.channel.codec import CodecError
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import (
    Header,
    PacketError,
    around_bytes,
    decode,
    encode,
    packet_bytes,
)
from latentwire.channel.registry import codec
from latentwire.channel.selector import kept
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel


class Arrived(NamedTuple):
    """A batch after the channel."""

    kept: list[range]  # positions of each row's kept tokens
    cache: KVCache  # those tokens, [B, H, K, D]; rows that keep fewer than K are filled up
    wire_bytes: list[int]  # length of each row's packet
    doubtful: Tensor  # bool [B], on the cache's device: rows that may be refused; see `refusals`


@dataclass(frozen=True)
class Link:
    """What sharer and receiver of a pair have agreed on before the first packet."""

    identity: bytes  # 8 bytes that name the pair
    geometry: Geometry  # of the sharer's cache
    key_layers: tuple[int, ...]  # sharer layers whose K the interface reads
    value_layers: tuple[int, ...]
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls, interface: Interface, identity: bytes, calibration: Calibration | None = None
    ) -> "Link":
        """The link that serves `interface`: nothing that it does not read is sent."""
        keys, values = (interface.layers_read(kind) for kind in ("key", "value"))
        return cls(identity, interface.sharer, keys, values, calibration)

    def header(self, channel: Channel, prompt_tokens: int) -> Header | None:
        """Header of the packet for a prompt of that length; None when no token is kept."""
        positions = kept(prompt_tokens, channel.keep_ratio, channel.order)
        return self._header(channel, positions) if positions else None

    def wire_bytes(self, channel: Channel, prompt_tokens: int) -> int | None:
        """Length of the packet for a prompt of that length, 0 when nothing is sent; None where it
        depends on the numbers."""
        header = self.header(channel, prompt_tokens)
        return packet_bytes(header) if header else 0

    def elements(self, channel: Channel, prompt_tokens: int) -> int:
        """Numbers of the sharer's cache that the packet for a prompt of that length stands for."""
        positions = kept(prompt_tokens, channel.keep_ratio, channel.order)
        return self._layout(positions).elements

    def send(self, channel: Channel, cache: KVCache) -> bytes:
        """The packet for one example's instruction cache (tensors [1, H, n-1, D]); b"" for none."""
        header = self.header(channel, cache.tokens + 1)
        if header is None:
            return b""
        (run,) = header.layout.runs
        return encode(cache.section(run.start, run.stop), header)

    def receive(
        self, packet: bytes, prompt_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[range, KVCache]:
        """Kept positions and their cache (tensors [1, H, T, D]) from a packet that is not empty.

        Raises PacketError for anything but a packet of this link for a prompt of that length.
        """
        header, cache = decode(
            packet, self.geometry, self.identity, dtype, self.calibration, prompt_tokens - 1
        )
        layout = header.layout
        if (layout.key_layers, layout.value_layers) != (self.key_layers, self.value_layers):
            raise PacketError("the packet does not hold the layers that the fuser reads")
        if len(layout.runs) != 1 or layout.runs[0].stop >= prompt_tokens:
            raise PacketError("the packet's tokens do not fit the prompt")
        if layout.first_position:
            raise PacketError("the packet's prompt does not stand at the conversation's start")
        return layout.runs[0], cache.map(lambda tensor: tensor.to(device))

    def pass_through(
        self, channel: Channel, cache: KVCache, prompt_tokens: Sequence[int], check: bool = True
    ) -> Arrived:
        """What `receive` would give for each example of a batch, and how long its packet would be.

        `cache` holds instructions (tensors [B, H, T, D]); row b has prompt_tokens[b] - 1 tokens
        of meaning, and anything after them. Rows are filled up by repeating their last kept token,
        which moves no minimum or maximum that a codec takes over a row's tokens.

        Raises PacketError for a row whose packet is refused, in the same words, for which it waits
        for the device; with `check` False it does neither, and `refusals` are the caller's to ask
        for before it uses what arrived.
        """
        arrived = self._pass_through(channel, cache, prompt_tokens)
        if check:
            doubtful = arrived.doubtful.tolist()
            for error in self.refusals(channel, cache, prompt_tokens, doubtful).values():
                raise error
        return arrived

    def refusals(
        self,
        channel: Channel,
        cache: KVCache,
        prompt_tokens: Sequence[int],
        doubtful: Sequence[bool],
    ) -> dict[int, PacketError]:
        """Why rows of a batch are refused, by row: their packets' own words. Rows that are not
        `doubtful` are not looked at; arguments as for `pass_through`."""
        refused = {}
        for row in (row for row, doubt in enumerate(doubtful) if doubt):
            tokens = prompt_tokens[row]
            try:
                packet = self.send(channel, cache.rows(row, row + 1).section(0, tokens - 1))
                if packet:
                    self.receive(packet, tokens, cache.keys[0].dtype, torch.device("cpu"))
            except PacketError as error:
                refused[row] = error
        return refused

    def _pass_through(
        self, channel: Channel, cache: KVCache, prompt_tokens: Sequence[int]
    ) -> Arrived:
        positions = [kept(n, channel.keep_ratio, channel.order) for n in prompt_tokens]
        section = _gather(cache, positions)
        sending = [row for row, run in enumerate(positions) if run]
        if not sending:
            none = torch.zeros(len(positions), dtype=torch.bool, device=section.keys[0].device)
            return Arrived(positions, section, [0] * len(positions), none)
        headers = {run: self._header(channel, run) for run in positions if run}
        # A row that keeps nothing has no layout of its own: any serves, and nothing is read of it.
        some = headers[positions[sending[0]]]
        layouts = [headers.get(run, some).layout for run in positions]
        try:
            arrived, lengths = self._codec(channel).round_trip(section, layouts)
        except CodecError as error:
            raise PacketError(str(error)) from None
        around = {run: around_bytes(header) for run, header in headers.items()}
        wire_bytes = [
            around[run] + length if run else 0
            for run, length in zip(positions, lengths, strict=True)
        ]
        return Arrived(positions, arrived, wire_bytes, _no_numbers((section, arrived), some.layout))

    def _codec(self, channel: Channel) -> CacheCodec:
        found = self.calibration.hash if self.calibration else ""
        if channel.calibration and channel.calibration != found:
            raise LatentWireError(
                f"{channel.codec} is to use calibration {channel.calibration}, but"
                f" {found or 'none'} is loaded"
            )
        return codec(channel.codec, self.calibration if channel.calibration else None)

    def _header(self, channel: Channel, positions: range) -> Header:
        return Header(self._codec(channel), self.identity, self._layout(positions))

    def _layout(self, positions: range) -> Layout:
        return Layout(self.geometry, self.key_layers, self.value_layers, (positions,))


def _no_numbers(caches: Sequence[KVCache], layout: Layout) -> Tensor:
    """Which rows hold NaN or infinity in any tensor sent: bool [B]. Waits for no device."""
    tensors = [tensor_of(cache, *site) for cache in caches for site in layout.sent]
    if not tensors:
        first = caches[0].keys[0]
        return torch.zeros(len(first), dtype=torch.bool, device=first.device)
    # The largest magnitude of a row's numbers: NaN where one is.
    largest = [torch.linalg.vector_norm(tensor, torch.inf, (1, 2, 3)) for tensor in tensors]
    return ~torch.isfinite(torch.stack(largest).amax(0))


def _gather(cache: KVCache, positions: Sequence[range]) -> KVCache:
    """Each row's tokens at its positions [B, H, K, D], K the longest; shorter rows repeat their
    last (a row of none its first)."""
    if len({*positions}) == 1:  # a view serves
        return cache.section(positions[0].start, positions[0].stop)
    starts = torch.tensor([run.start for run in positions])
    counts = torch.tensor([len(run) for run in positions])
    steps = torch.arange(int(counts.max()))
    places = torch.minimum(steps, (counts - 1).clamp_min(0)[:, None])
    index = (starts[:, None] + places).to(cache.keys[0].device)

    def pick(tensor: Tensor) -> Tensor:
        heads, head_dim = tensor.shape[1], tensor.shape[3]
        return tensor.gather(2, index[:, None, :, None].expand(-1, heads, -1, head_dim))

    return cache.map(pick)
