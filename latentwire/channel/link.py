"""Both ends of the wire for one pair: what is sent, and how it arrives."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.fuser import Fuser
from latentwire.channel.packet import Header, PacketError, decode, encode, packet_bytes
from latentwire.channel.registry import codec
from latentwire.channel.selector import kept
from latentwire.condition import Channel


@dataclass(frozen=True)
class Link:
    """What sharer and receiver of a pair have agreed on before the first packet."""

    identity: bytes  # 8 bytes that name the pair
    geometry: Geometry  # of the sharer's cache
    key_layers: tuple[int, ...]  # sharer layers whose K the fuser reads
    value_layers: tuple[int, ...]

    @classmethod
    def of(cls, fuser: Fuser, identity: bytes) -> "Link":
        """The link that serves `fuser`: nothing that only closed gates would read is sent."""
        return cls(identity, fuser.sharer, fuser.layers_read("key"), fuser.layers_read("value"))

    def header(self, channel: Channel, prompt_tokens: int) -> Header | None:
        """Header of the packet for a prompt of that length; None when no token is kept."""
        positions = kept(prompt_tokens, channel.keep_ratio, channel.order)
        if not positions:
            return None
        return Header(
            codec(channel.codec),
            self.identity,
            self.geometry,
            self.key_layers,
            self.value_layers,
            (positions,),
        )

    def wire_bytes(self, channel: Channel, prompt_tokens: int) -> int:
        """Length of the packet for a prompt of that length; 0 when nothing is sent."""
        header = self.header(channel, prompt_tokens)
        return packet_bytes(header) if header else 0

    def send(self, channel: Channel, cache: KVCache) -> bytes:
        """The packet for one example's instruction cache (tensors [1, H, n-1, D]); b"" for none."""
        header = self.header(channel, cache.tokens + 1)
        if header is None:
            return b""
        (run,) = header.runs
        return encode(cache.section(run.start, run.stop), header)

    def receive(
        self, packet: bytes, prompt_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[range, KVCache]:
        """Kept positions and their cache (tensors [1, H, T, D]) from a packet that is not empty.

        Raises PacketError for anything but a packet of this link for a prompt of that length.
        """
        header, cache = decode(packet, self.geometry, self.identity, dtype)
        if (header.key_layers, header.value_layers) != (self.key_layers, self.value_layers):
            raise PacketError("the packet does not hold the layers that the fuser reads")
        if len(header.runs) != 1 or header.runs[0].stop >= prompt_tokens:
            raise PacketError("the packet's tokens do not fit the prompt")
        return header.runs[0], cache.map(lambda tensor: tensor.to(device))

    def pass_through(
        self, channel: Channel, cache: KVCache, prompt_tokens: Sequence[int]
    ) -> tuple[list[range], KVCache, list[int]]:
        """What `receive` would give for each example of a batch, without making the bytes.

        `cache` holds instruction caches [B, H, T, D], right-padded: of row b the first
        prompt_tokens[b] - 1 tokens count. Returns each row's kept positions, the cache of its kept
        tokens [B, H, K, D] in one batch, and the length of each packet in bytes (0 for none). K is
        that of the row that keeps most; shorter rows are filled up with their last kept token,
        which changes no statistic that a codec may use (see `Codec`). A row that keeps nothing
        holds nothing of meaning.
        """
        lengths = sorted(set(prompt_tokens))
        by_length = {n: kept(n, channel.keep_ratio, channel.order) for n in lengths}
        sizes = {n: self.wire_bytes(channel, n) for n in lengths}
        runs = [by_length[n] for n in prompt_tokens]
        section = _gather(cache, runs)
        round_trip = codec(channel.codec).round_trip

        def arrived(tensors: tuple[Tensor, ...], sent: tuple[int, ...]) -> tuple[Tensor, ...]:
            nothing = tensors[0].new_full((), torch.nan).expand_as(tensors[0])
            return tuple(
                round_trip(tensor) if section.tokens and layer in sent else nothing
                for layer, tensor in enumerate(tensors)
            )

        received = KVCache(
            arrived(section.keys, self.key_layers), arrived(section.values, self.value_layers)
        )
        return runs, received, [sizes[n] for n in prompt_tokens]


def _gather(cache: KVCache, runs: Sequence[range]) -> KVCache:
    """The tokens of each row's run [B, H, K, D], each row's last repeated up to the longest."""
    if len(set(runs)) == 1:
        return cache.section(runs[0].start, runs[0].stop)
    starts = torch.tensor([run.start for run in runs])
    counts = torch.tensor([len(run) for run in runs])
    steps = torch.arange(int(counts.max()))
    places = starts[:, None] + torch.minimum(steps, (counts - 1).clamp_min(0)[:, None])
    device, heads = cache.keys[0].device, cache.keys[0].shape[1]
    index = places.to(device)[:, None, :, None].expand(-1, heads, -1, cache.keys[0].shape[3])
    return cache.map(lambda tensor: tensor.gather(2, index))
