"""The packet: what the sharer sends for one example, to the byte; see docs/WIRE.md.

    4  magic "LWKV"
    1  version, 1, 2 or 3
    1  codec number
    8  identity of the pair (models, fuser, tokenizer)
    2  sharer layers L          little-endian, as all numbers
    2  KV heads H
    2  head_dim D
    -  ceil(L / 8)              which layers' K are sent, a bit each, layer 0 lowest
    -  ceil(L / 8)              which layers' V are sent
    -  varint                   position of the prompt's first token
    -  varint                   version 2: tokens of the prompt, of which the last is not sent;
                                version 3: the same, or 0
    -  runs of tokens           varint: how many; 2 varints a run: tokens skipped since the last
                                run, tokens in this run
    -  codec's parameters       nothing for most codecs
    -  payload                  K of each sent layer ascending, then V, or as the codec says
    4  CRC-32 of all before; in version 3 it stands before the payload

Where layers send different tokens, a 0 stands before the runs, and behind them the runs of each
layer that either mask names, ascending: the first runs are then the sections of the prompt.

A varint holds 7 bits a byte, lowest first, and has its shortest form. For most codecs the header
says how long the packet is, and any other length is refused before anything is allocated.

Version 3 is of codecs whose payload may end anywhere (`EmbeddedCodec`): it has checks of its own.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache, concatenate
from c2c.sections import Runs
from latentwire.channel import checksum, packet_rows
from latentwire.channel.batch_codec import BatchCodec
from latentwire.channel.cache_codec import CacheCodec, EmbeddedCodec, is_embedded
from latentwire.channel.calibration import Calibration
from latentwire.channel.codec import CodecError
from latentwire.channel.device_codec import DeviceCodec, cast, on_device
from latentwire.channel.header_fields import LARGEST_NUMBER, PacketError, Reader, mask, varints
from latentwire.channel.host_rows import Buffer
from latentwire.channel.layer_runs import LayerRuns
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.registry import read_codec
from latentwire.errors import LatentWireError

MAGIC = b"LWKV"
VERSION, TOLD_VERSION = 1, 2  # the second where the receiver must be told how long the text is
CUT_VERSION = 3  # of a payload that may end anywhere
IDENTITY_BYTES = 8
# What a reader believes of a packet where it does not know its prompt: a short compressed payload
# could otherwise claim a cache of any size.
MOST_TOKENS = 1 << 17
FEW_RUNS = 1024  # are read whatever the limit, so that a refusal tells their tokens
MOST_UNPACKED = 1 << 27  # numbers, of a payload whose length the header does not tell
MOST_RUNS = 1 << 20  # of all layers together, where they differ
_FIXED = struct.Struct("<4sBB8sHHH")
FIXED_BYTES = _FIXED.size
CHECKSUM_BYTES = checksum.BYTES
_LARGEST_SIZE = 2**16 - 1
_CPU = torch.device("cpu")
_Known = tuple[Geometry, bytes, Calibration | None, int | None]  # what `decode` is told


@dataclass(frozen=True)
class Header:
    """All that a packet says besides the numbers of the cache."""

    codec: CacheCodec
    identity: bytes
    layout: Layout

    def __post_init__(self) -> None:
        geometry = self.layout.geometry
        if len(self.identity) != IDENTITY_BYTES:
            raise PacketError(f"a pair's identity has {IDENTITY_BYTES} bytes")
        if max(geometry.layers, geometry.kv_heads, geometry.head_dim) > _LARGEST_SIZE:
            raise PacketError(f"{geometry} is too large for a packet")

    @cached_property
    def version(self) -> int:
        if is_embedded(self.codec):
            return CUT_VERSION
        return TOLD_VERSION if self.layout.text_tokens else VERSION


def encode(cache: KVCache, header: Header) -> bytes:
    """The packet for `cache`: the kept tokens of one example, tensors [1, H, T, D].

    Raises PacketError when the cache is not what the header says or cannot be encoded.
    """
    _check_shapes(cache, header.layout, 1)
    return bytes(_packets(cache, header)[0])


def encode_batch(cache: KVCache, header: Header) -> Sequence[Buffer]:
    """The packet of each example of a batch, tensors [B, H, T, D], whose header they share; errors
    as in `encode`, for the first that is refused. They may be views of one piece of memory."""
    _check_shapes(cache, header.layout, len(cache.keys[0]))
    return _packets(cache, header)


def _check_shapes(cache: KVCache, layout: Layout, batch: int) -> None:
    if cache.layers != layout.geometry.layers:
        raise PacketError(
            f"the cache has {cache.layers} layers, the header says {layout.geometry.layers}"
        )
    heads, head_dim = layout.geometry.kv_heads, layout.geometry.head_dim
    for kind, layer in layout.sent:
        found, said = (
            tensor_of(cache, kind, layer).shape,
            (batch, heads, layout.counts[layer], head_dim),
        )
        if found != said:
            raise PacketError(
                f"the {kind} of layer {layer} is {[*found]}, the header says {[*said]}"
            )


def _packets(cache: KVCache, header: Header) -> Sequence[Buffer]:
    codec, layout = header.codec, header.layout
    try:
        body = encode_header(header)
        if isinstance(codec, DeviceCodec):
            return _rows(cache, codec, layout, body)
        if isinstance(codec, BatchCodec):
            payloads = codec.encode_batch(cache, layout)
        else:
            rows = (cache.rows(row, row + 1) for row in range(len(cache.keys[0])))
            payloads = [codec.encode(row, layout) for row in rows]
    except CodecError as error:
        raise PacketError(str(error)) from None
    if header.version == CUT_VERSION:
        return [b"".join((body, checksum.of(body), payload)) for payload in payloads]
    return [b"".join((body, payload, checksum.of(body, payload))) for payload in payloads]


def _rows(cache: KVCache, codec: DeviceCodec, layout: Layout, body: bytes) -> Sequence[Buffer]:
    like = cache.keys[0]
    shape = len(like), codec.payload_bytes(layout)

    def write(out: Tensor, broken: Tensor) -> None:
        codec.write(cache, layout, out, broken)

    if (made := packet_rows.joined(body, shape, like.device, write)) is not None:
        return made
    alone = codec.written_alone(cache, layout)  # says why; or there is no reason
    made = packet_rows.joined(body, shape, _CPU, lambda out, broken: out.copy_(alone))
    assert made is not None
    return made


def cut(data: bytes, most_bytes: int, calibration: Calibration | None = None) -> bytes:
    """The beginning of a packet of an `EmbeddedCodec` that has at most so many bytes, ended as its
    sender would; b"" where not even the payload's head fits.

    Raises PacketError for bytes that are no packet, and LatentWireError for other codecs'.
    """
    header, start = decode_header(data, calibration, MOST_TOKENS)  # no number is unpacked
    codec, layout = header.codec, header.layout
    if not isinstance(codec, EmbeddedCodec):
        raise LatentWireError(f"a packet of {codec.name} cannot be cut")
    try:
        if most_bytes < start + codec.least_bytes(layout):
            return b""
        return data[:start] + codec.cut(memoryview(data)[start:], layout, most_bytes - start)
    except CodecError as error:
        raise PacketError(str(error)) from None


def encode_header(header: Header) -> bytes:
    """The bytes before the payload."""
    layout = header.layout
    geometry = layout.geometry
    fixed = _FIXED.pack(
        MAGIC,
        header.version,
        header.codec.number,
        header.identity,
        geometry.layers,
        geometry.kv_heads,
        geometry.head_dim,
    )
    numbers = [layout.first_position]
    if header.version != VERSION:
        numbers.append(layout.text_tokens)
    if layout.by_layer:
        numbers.append(0)
    named = layers_named(layout) if layout.by_layer else []
    for runs in (layout.runs, *(layout.by_layer[layer] for layer in named)):
        numbers.append(len(runs))
        end = 0
        for run in runs:
            numbers += [run.start - end, len(run)]
            end = run.stop
    masks = mask(layout.key_layers, geometry.layers) + mask(layout.value_layers, geometry.layers)
    return fixed + masks + varints(numbers) + header.codec.parameters(layout)


def layers_named(layout: Layout) -> list[int]:
    """Those that the masks name, ascending."""
    return sorted({*layout.key_layers, *layout.value_layers})


def around_bytes(header: Header) -> int:
    """Length of a packet besides its payload."""
    return len(encode_header(header)) + CHECKSUM_BYTES


def packet_bytes(header: Header) -> int | None:
    """`len(encode(cache, header))`, without encoding; None where it depends on the numbers."""
    payload = header.codec.payload_bytes(header.layout)
    return None if payload is None else around_bytes(header) + payload


def decode(
    data: Buffer | Sequence[Buffer],
    geometry: Geometry,
    identity: bytes,
    dtype: torch.dtype = torch.float32,
    calibration: Calibration | None = None,
    most_tokens: int | None = None,
    device: torch.device = _CPU,
) -> tuple[Header, KVCache]:
    """Header and kept tokens of a packet for this pair, or of B packets that have one header:
    tensors [B, H, T, D] on a device.

    Tensors that were not sent are NaN, so that using one cannot go unnoticed. Any other input
    raises PacketError, and so do numbers that `dtype` does not hold, and packets whose headers
    differ. Nothing larger than a cache of `most_tokens` tokens is allocated; where that is None, of
    MOST_TOKENS and, in a payload whose length the header does not tell, MOST_UNPACKED numbers.
    """
    packets = [data] if isinstance(data, bytes | bytearray | memoryview) else data
    known = geometry, identity, calibration, most_tokens
    if checksum.on(device) and (arrived := _at_once(packets, known, dtype, device)):
        return arrived
    found = [_opened(each, *known) for each in packets]
    header = found[0][0]
    if any(encode_header(each) != encode_header(header) for each, _ in found[1:]):
        raise PacketError("the packets of a batch do not have one header")
    return header, _caches(header, [payload for _, payload in found], dtype, device)


def _at_once(
    packets: Sequence[Buffer], known: _Known, dtype: torch.dtype, device: torch.device
) -> tuple[Header, KVCache] | None:
    """What `decode` gives, with the checksums taken on the device; None where anything may be
    wrong, or the codec works on the host: then one packet after the other says it."""
    first = packets[0]
    try:
        header, payload = _opened(first, *known, check=False)
        codec, start = header.codec, len(first) - len(payload) - CHECKSUM_BYTES
        if not isinstance(codec, DeviceCodec) or not len(payload):
            return None
        if (found := packet_rows.payloads(packets, start, device)) is None:
            return None
        data, marks = found
        cache = codec.read(data, header.layout, dtype, marks[:1])
    except LatentWireError:
        return None
    return None if bool(marks.any()) else (header, cache)


def _opened(
    data: Buffer,
    geometry: Geometry,
    identity: bytes,
    calibration: Calibration | None,
    most_tokens: int | None,
    check: bool = True,
) -> tuple[Header, memoryview]:
    """Header and payload of a packet for this pair, as long as the header says; without `check`,
    whatever its checksum says."""
    header, start = _header(data, calibration, most_tokens, check)
    if header.identity != identity:
        raise PacketError(
            f"the packet is for pair {header.identity.hex()}, this one is {identity.hex()}"
        )
    if header.layout.geometry != geometry:
        raise PacketError(f"the packet is of {header.layout.geometry}, the sharer is {geometry}")
    behind = 0 if header.version == CUT_VERSION else CHECKSUM_BYTES
    return header, memoryview(data)[start : len(data) - behind]


def _caches(
    header: Header, payloads: Sequence[memoryview], dtype: torch.dtype, device: torch.device
) -> KVCache:
    codec, layout = header.codec, header.layout
    try:
        if isinstance(codec, DeviceCodec):
            return codec.caches(on_device(payloads, device), layout, dtype)
        if isinstance(codec, BatchCodec):
            return cast(codec.decode_batch(payloads, layout, device), layout, dtype, device)
        arrived = [codec.decode(payload, layout) for payload in payloads]
        whole = concatenate(arrived, 0) if len(arrived) > 1 else arrived[0]
        return cast(whole, layout, dtype, device)
    except CodecError as error:
        raise PacketError(str(error)) from None


def decode_header(
    data: Buffer, calibration: Calibration | None = None, most_tokens: int | None = None
) -> tuple[Header, int]:
    """The header and where the payload starts, once length and checksum are right; in version 3
    those of the header.

    A packet that needs a calibration has a header without it too, but cannot be decoded. What is
    larger than `decode` allows is refused.
    """
    return _header(data, calibration, most_tokens, check=True)


def _header(
    data: Buffer, calibration: Calibration | None, most_tokens: int | None, check: bool
) -> tuple[Header, int]:
    """The same; without `check`, whatever the checksum of a packet says that has it at its end."""
    if len(data) < FIXED_BYTES + CHECKSUM_BYTES:
        raise PacketError(f"{len(data)} bytes are too few for a packet")
    magic, version, number, identity, layers, kv_heads, head_dim = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise PacketError("the bytes do not start like a packet")
    if version not in (VERSION, TOLD_VERSION, CUT_VERSION):
        raise PacketError(
            f"packet version {version} is unknown, this reads version {VERSION} to {CUT_VERSION}"
        )
    whole = memoryview(data)
    end = len(data) if version == CUT_VERSION else len(data) - CHECKSUM_BYTES
    if check and version != CUT_VERSION and checksum.of(whole[:end]) != whole[end:]:
        raise PacketError(_WRONG)
    if 0 in (layers, kv_heads, head_dim):
        raise PacketError("a cache of no layers, heads or channels is not a cache")
    reader = Reader(whole[:end], FIXED_BYTES)
    most = MOST_TOKENS if most_tokens is None else most_tokens
    layout = _read_layout(reader, Geometry(layers, kv_heads, head_dim), version, most)
    header = Header(read_codec(number, reader, layout, calibration), identity, layout)
    if (version == CUT_VERSION) != (header.version == CUT_VERSION):
        raise PacketError(f"{header.codec.name} does not go in packets of version {version}")
    if version == CUT_VERSION:
        place = reader.place
        if reader.bytes(CHECKSUM_BYTES) != checksum.of(data[:place]):
            raise PacketError(_WRONG)
    payload = header.codec.payload_bytes(layout)
    if payload is not None and len(data) != (expected := reader.place + payload + CHECKSUM_BYTES):
        raise PacketError(f"the packet is {len(data)} bytes long, its header says {expected}")
    if layout.tokens > most:
        raise PacketError(_too_many(f"{layout.tokens} tokens", most))
    if payload is None and most_tokens is None and layout.elements > MOST_UNPACKED:
        raise PacketError(_too_many(f"{layout.elements} compressed numbers", MOST_UNPACKED))
    return header, reader.place


def _read_layout(reader: Reader, geometry: Geometry, version: int, most: int) -> Layout:
    """What is sent, of at most so many tokens."""
    key_layers, value_layers = reader.mask(geometry.layers), reader.mask(geometry.layers)
    first_position = reader.varint()
    text_tokens = 0 if version == VERSION else reader.varint()
    differ = reader.skipped_zero()
    if not (runs := _runs(reader, max(most, FEW_RUNS), most)):
        raise PacketError("the packet holds no tokens: for those, none is sent")
    if first_position + max(text_tokens, runs[-1].stop) > LARGEST_NUMBER:
        raise PacketError("the packet's positions are too large")
    if text_tokens <= runs[-1].stop and (text_tokens or version == TOLD_VERSION):
        raise PacketError("the packet's text ends before its last token, or with it")
    layout = Layout(
        geometry,
        key_layers,
        value_layers,
        runs,
        first_position,
        text_tokens=text_tokens,
    )
    if differ:
        layout = replace(layout, by_layer=_runs_by_layer(reader, layout, most))
    return layout


def _runs_by_layer(reader: Reader, layout: Layout, most_tokens: int) -> LayerRuns:
    """What each layer sends; PacketError for tokens in no section, and for what would have been
    written in fewer bytes."""
    by_layer: list[Runs] = [()] * layout.geometry.layers
    left = MOST_RUNS
    named = layers_named(layout)
    for layer in named:
        by_layer[layer] = runs = _runs(reader, min(max(most_tokens, FEW_RUNS), left), most_tokens)
        left -= len(runs)
    sent = LayerRuns.of(by_layer)
    if len(outside := sent.outside(layout.runs)):
        raise PacketError(f"layer {outside[0]} sends tokens that lie in no section")
    if not len(sent.table):
        raise PacketError("no layer sends any token: for that, no packet is sent")
    if sent.are(layout.runs, named):
        raise PacketError("the packet names for each layer the tokens that all send")
    return sent


def _runs(reader: Reader, most: int, most_tokens: int) -> Runs:
    """Runs of tokens. Where there are more than `most`, none is read."""
    count = reader.varint()
    if 2 * count > len(reader.data) - reader.place:
        raise PacketError("the packet ends within its header")
    if count > most:
        raise PacketError(_too_many(f"{count} runs of tokens", most_tokens))
    runs: list[range] = []
    end = 0
    for _ in range(count):
        start = end + reader.varint()
        if runs and start == end:
            raise PacketError("two runs of tokens touch")
        end = start + reader.varint()
        if end == start:
            raise PacketError("a run of tokens is empty")
        runs.append(range(start, end))
    return tuple(runs)


_WRONG = "the checksum is wrong: the packet is truncated or altered"


def _too_many(what: str, most: int) -> str:
    return f"the packet claims {what}, where at most {most} can be"
