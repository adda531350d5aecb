"""`kvtc`: transform coding of whole tokens.

    keys with the rotary embedding undone, all layers and heads of a token as one vector
    -> minus mean, onto calibrated principal components -> quantized by component, bits where they
    lower the measured error most -> range coder with static tables; values likewise

Source: KVTC (arXiv:2511.01815). Its entropy stage compresses megabytes at a time; here a packet
holds some hundred tokens, for which tables in the packet would cost more than the payload, so
tables are part of the calibration. Arithmetic: see `transform`.

Parameters in the packet: the first 8 bytes of the calibration's sha256. Payload: length of the
keys' stream (varint), the keys' stream, the values' stream. Where only one of the two is sent, the
payload is its stream.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache, concatenate
from c2c.on_device import on_device, on_host
from latentwire.channel import rope, stream_batch, transform
from latentwire.channel.batch_codec import BatchCodec
from latentwire.channel.calibration import Calibration, required
from latentwire.channel.codec import NOT_FINITE, CodecError, NumbersRefused, not_finite
from latentwire.channel.header_fields import PacketError, Reader, varints
from latentwire.channel.later_lengths import LaterLengths
from latentwire.channel.layout import Layout, Site, batch_positions, example, tensor_of

Block = tuple[Site, ...]  # tensors of one kind whose numbers are coded together, a token at a time
ALL = slice(None)
AT_ONCE = 1 << 25  # numbers of a block in float64 at once: 250 MB, some times over
_Turn = Callable[[Tensor, Tensor, Tensor], Tensor]  # of `rope`


@dataclass(frozen=True)
class KVTC(BatchCodec):
    """The codec fitted for `bits` a number, for one calibration; without one, it does nothing."""

    name: str
    number: int
    bits: float
    calibration: Calibration | None = field(compare=False)
    digest: bytes

    def blocks(self, layout: Layout) -> list[Block]:
        """What each stream holds, in the packet's order."""
        return self.blocks_of(layout.sent)

    def blocks_of(self, sites: Sequence[Site]) -> list[Block]:
        """The same of tensors in the packet's order: all K, and all V."""
        kinds = dict.fromkeys(kind for kind, _ in sites)
        return [tuple(site for site in sites if site[0] == kind) for kind in kinds]

    def tables(self, block: Block, layout: Layout) -> transform.TransformTables:
        """CodecError for other layers than the calibration's: their numbers mean something else;
        and for tokens that differ by layer."""
        calibration = required(self.calibration, self.name)
        kind = block[0][0]
        _, layers = layout.shape, tuple(layer for _, layer in block)
        if layout.geometry != calibration.geometry or layers != calibration.layers[kind]:
            raise CodecError(
                f"{self.name} was calibrated for {kind}s of layers {calibration.layers[kind]} of"
                f" {calibration.geometry}, not for {layers} of {layout.geometry}"
            )
        return calibration.tables[kind, self.bits]

    def parameters(self, layout: Layout) -> bytes:
        return self.digest

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        streams = [
            transform.encode(self.tables(block, layout), self.vectors(cache, block, layout))
            for block in self.blocks(layout)
        ]
        return _lengths([len(stream) for stream in streams]) + b"".join(streams)

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        tensors: dict[Site, Tensor] = {}
        for block, stream in zip(self.blocks(layout), self._streams(data, layout), strict=True):
            tokens = layout.tokens_of(block[0][1])
            vectors = transform.decode(self.tables(block, layout), stream, tokens)
            tensors |= self.tensors(vectors, block, layout)
        return layout.cache(tensors)

    def _streams(self, data: memoryview, layout: Layout) -> list[memoryview]:
        """What a payload holds of each block."""
        blocks = self.blocks(layout)
        reader = Reader(data, 0)
        try:
            lengths = [reader.varint() for _ in blocks[:-1]]
        except PacketError as error:
            raise CodecError(str(error)) from None
        streams, place = [], reader.place
        for length in lengths:
            streams.append(data[place : place + length])
            place += length
        if place > len(data):
            raise CodecError("the payload ends within its streams")
        if place < len(data) and not blocks:
            raise CodecError("there is a payload, but no tensor is sent")
        return [*streams, data[place:]] if blocks else []

    def encode_batch(self, cache: KVCache, layout: Layout) -> list[bytes]:
        rows, device = len(cache.keys[0]), cache.keys[0].device
        if device.type == "cpu":
            return [self.encode(cache.rows(row, row + 1), layout) for row in range(rows)]
        return self.encode_there(cache, layout)

    def encode_there(self, cache: KVCache, layout: Layout) -> list[bytes]:
        """`encode_batch` where the cache is: all examples in one product a block."""
        blocks = self.blocks(layout)
        coded = [self._coded(block, layout) for block in blocks]
        codes, broken = [], []
        for block, of in zip(blocks, coded, strict=True):
            x = self.vectors_of(_stacked(cache, block, ALL), block, layout)
            broken.append(not_finite(x))
            codes.append(transform.codes(of.tables, x))
        if broken and bool(torch.stack(broken).any()):
            raise NumbersRefused(NOT_FINITE)
        streams = stream_batch.encode(coded, codes)
        return [
            _lengths([len(own[row]) for own in streams]) + b"".join(own[row] for own in streams)
            for row in range(len(cache.keys[0]))
        ]

    def decode_batch(
        self, payloads: Sequence[memoryview], layout: Layout, device: torch.device
    ) -> KVCache:
        if device.type == "cpu":
            found = [self.decode(payload, layout) for payload in payloads]
            return concatenate(found, 0) if len(found) > 1 else found[0]
        return self.decode_there(payloads, layout, device)

    def decode_there(
        self, payloads: Sequence[memoryview], layout: Layout, device: torch.device
    ) -> KVCache:
        """`decode_batch` on a device: all examples in one product a block."""
        blocks = self.blocks(layout)
        coded = [self._coded(block, layout) for block in blocks]
        rows = [self._streams(payload, layout) for payload in payloads]
        streams = [[row[place] for row in rows] for place in range(len(blocks))]
        tensors: dict[Site, Tensor] = {}
        for block, of, codes in zip(
            blocks, coded, stream_batch.decode(coded, streams, device), strict=True
        ):
            tensors |= self.tensors(transform.numbers(of.tables, codes), block, layout)
        heads, head_dim = layout.geometry.kv_heads, layout.geometry.head_dim
        like = torch.empty((), device=device).expand(len(rows), heads, layout.tokens, head_dim)
        return layout.cache(tensors, like)

    def _coded(self, block: Block, layout: Layout) -> stream_batch.Block:
        return stream_batch.Block(self.tables(block, layout), layout.tokens_of(block[0][1]))

    def payload_bytes(self, layout: Layout) -> None:
        return None

    def round_trip(
        self, cache: KVCache, layouts: Sequence[Layout]
    ) -> tuple[KVCache, Sequence[int]]:
        """On the CPU example by example: products of matrices of another size may round otherwise.
        Elsewhere as `BatchCodec` says."""
        if cache.keys[0].device.type == "cpu":
            return self._round_trip_alone(cache, layouts)
        return self.round_trip_there(cache, layouts)

    def _round_trip_alone(
        self, cache: KVCache, layouts: Sequence[Layout]
    ) -> tuple[KVCache, Sequence[int]]:
        like = cache.keys[0]
        batch = {site: torch.zeros_like(tensor_of(cache, *site)) for site in layouts[0].sites}
        lengths = []
        for row, layout in enumerate(layouts):
            own, streams = example(cache, row, layout), []
            for block in self.blocks(layout):
                tables, tokens = self.tables(block, layout), layout.tokens_of(block[0][1])
                try:
                    vectors = self.vectors(own, block, layout)
                    arrived, length = transform.round_trip(tables, vectors)
                except NumbersRefused:
                    arrived, length = torch.full((tokens, tables.features), torch.nan), 0
                streams.append(length)
                for site, tensor in self.tensors(arrived, block, layout).items():
                    batch[site][row, :, :tokens] = tensor[0].to(like)
            lengths.append(len(_lengths(streams)) + sum(streams))
        return layouts[0].cache(batch, like), lengths

    def round_trip_there(
        self, cache: KVCache, layouts: Sequence[Layout]
    ) -> tuple[KVCache, Sequence[int]]:
        """`round_trip` where the cache is: many examples in one product a block, and the lengths of
        all streams, which are those of the codes made there, in one launch and one copy. Nothing
        waits for the device before a length is looked at."""
        like, geometry = cache.keys[0], layouts[0].geometry
        batch = {site: torch.zeros_like(tensor_of(cache, *site)) for site in layouts[0].sites}
        blocks = self._blocks_of_any(layouts)
        all_tables, codes, sound = [], [], []
        for block, tables, places in self._placed(blocks, layouts, cache):
            own, fine = [], []
            for rows in _parts(tensor_of(cache, *block[0]), tables.features):
                at = places if places is None else places[rows]
                x = self._joined(_stacked(cache, block, rows), at)
                own.append(transform.codes(tables, x))
                fine.append(torch.linalg.vector_norm(x.flatten(1), torch.inf, 1) < torch.inf)
                come = transform.numbers(tables, own[-1]).where(fine[-1][:, None, None], torch.nan)
                for site, tensor in self._apart(come, block, at, geometry).items():
                    batch[site][rows] = tensor
            all_tables.append(tables)
            codes.append(torch.cat(own))
            sound.append(torch.cat(fine))
        arrived = layouts[0].cache(batch, like)
        if not blocks:
            return arrived, [0] * len(layouts)
        counts = torch.tensor(
            [[each.tokens_of(block[0][1]) for each in layouts] for block in blocks]
        )
        tokens = on_device(counts, like.device) * torch.stack(sound)  # nothing of what is refused
        streams = on_host(stream_batch.lengths(all_tables, codes, tokens))
        return arrived, LaterLengths(len(layouts), lambda: _payload_bytes(counts, streams()))

    def arrived(self, cache: KVCache, layouts: Sequence[Layout]) -> KVCache:
        """See `cache_codec.arrived`: the whole batch at once, on its device, by
        `transform.arrived`."""
        like, first = cache.keys[0], layouts[0]
        tensors: dict[Site, Tensor] = {}
        for block, tables, places in self._placed(self._blocks_of_any(layouts), layouts, cache):
            x = self._joined(_stacked(cache, block, ALL), places)
            come = transform.arrived(tables, x.flatten(0, 1)).view(x.shape)
            apart = self._apart(come, block, places, first.geometry)
            tensors |= {site: tensor.to(like) for site, tensor in apart.items()}
        return first.cache(tensors, like)

    def _blocks_of_any(self, layouts: Sequence[Layout]) -> list[Block]:
        """The blocks of all that any example sends."""
        sent = {site for layout in layouts for site in layout.sent}
        return self.blocks_of([site for site in layouts[0].sites if site in sent])

    def _placed(
        self, blocks: Sequence[Block], layouts: Sequence[Layout], cache: KVCache
    ) -> Iterator[tuple[Block, transform.TransformTables, Tensor | None]]:
        """Of each block of a batch its tables, and its keys' positions [B, T] on the cache's
        device, as many as the cache has."""
        differing = next((each for each in layouts if each.by_layer), layouts[0])
        known = batch_positions(layouts, cache.keys[0].device)
        for block in blocks:
            kind, layer = block[0]
            own = known[layer if len(known) > 1 else 0, :, : cache.keys[layer].shape[2]]
            yield block, self.tables(block, differing), own if kind == "key" else None

    def vectors(self, cache: KVCache, block: Block, layout: Layout) -> Tensor:
        """What is sent of one example, float32 [T, layers * H * D] on the CPU."""
        stacked = torch.stack([tensor_of(cache, *site)[:1] for site in block]).float().cpu()
        return self.vectors_of(stacked, block, layout)[0]

    def vectors_of(self, stacked: Tensor, block: Block, layout: Layout) -> Tensor:
        """What is sent of a block [layers, B, H, T, D]: float32 [B, T, layers * H * D]."""
        return self._joined(stacked, _positions(block, layout, stacked.device))

    def tensors(self, vectors: Tensor, block: Block, layout: Layout) -> dict[Site, Tensor]:
        """The tensors [B, H, T, D] of the vectors [B, T, layers * H * D] of a block; of one
        example's [T, layers * H * D] too."""
        positions = _positions(block, layout, vectors.device)
        return self._apart(vectors, block, positions, layout.geometry)

    def _joined(self, stacked: Tensor, positions: Tensor | None) -> Tensor:
        """`vectors_of` of keys at positions [T] or [B, T]; values have none."""
        return token_vectors(self._turned(stacked.float(), positions, rope.undo))

    def _apart(
        self, vectors: Tensor, block: Block, positions: Tensor | None, geometry: Geometry
    ) -> dict[Site, Tensor]:
        """`tensors` of keys at positions [T] or [B, T]; values have none."""
        shape = vectors.shape[-2], len(block), geometry.kv_heads, geometry.head_dim
        stacked = vectors.view(-1, *shape).permute(2, 0, 3, 1, 4)
        return dict(zip(block, self._turned(stacked, positions, rope.redo), strict=True))

    def _turned(self, x: Tensor, positions: Tensor | None, turn: _Turn) -> Tensor:
        """Keys at `positions` turned; values as they are."""
        if positions is None:
            return x
        frequencies = required(self.calibration, self.name).inverse_frequencies
        return turn(x, positions, on_device(frequencies, positions.device))


def _positions(block: Block, layout: Layout, device: torch.device) -> Tensor | None:
    """Those of a block's keys, int64 [T]; values have none."""
    kind, layer = block[0]
    return on_device(layout.positions(layer), device) if kind == "key" else None


def _stacked(cache: KVCache, block: Block, rows: slice) -> Tensor:
    """Some rows of the tensors of a block, [layers, B, H, T, D]."""
    return torch.stack([tensor_of(cache, *site)[rows] for site in block])


def _parts(x: Tensor, features: int) -> list[slice]:
    """The rows of [B, H, T, D], cut where a block of so many numbers a token would be more than is
    to be in float64 at once."""
    rows, tokens = len(x), x.shape[2]
    step = max(1, AT_ONCE // (tokens * features))
    return [slice(first, first + step) for first in range(0, rows, step)]


def _payload_bytes(tokens: Tensor, streams: Tensor) -> list[int]:
    """The length of each payload, of how many tokens each block sends of each example and of how
    many bytes their streams are [N, B]; blocks of no tokens are not in the payload."""
    lengths = []
    for counts, sizes in zip(tokens.T.tolist(), streams.T.tolist(), strict=True):
        sent = [size for count, size in zip(counts, sizes, strict=True) if count]
        lengths.append(len(_lengths(sent)) + sum(sent))
    return lengths


def token_vectors(x: Tensor) -> Tensor:
    """[L, ..., H, T, D] -> [..., T, L * H * D]: all that is sent of a token as one vector."""
    return x.movedim(0, -4).movedim(-2, -4).flatten(-3)


def _lengths(lengths: list[int]) -> bytes:
    """The length of each stream that another one follows."""
    return varints(lengths[:-1])
