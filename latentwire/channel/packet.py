"""The packet: what the sharer sends for one example, to the byte. Version 1; see docs/wire.md.

    4  magic "LWKV"
    1  version, 1
    1  codec number
    8  identity of the pair (models, fuser, tokenizer)
    2  sharer layers L          little-endian, as all numbers
    2  KV heads H
    2  head_dim D
    -  ceil(L / 8)              which layers' K are sent, a bit each, layer 0 lowest
    -  ceil(L / 8)              which layers' V are sent
    -  varint                   position of the prompt's first token
    -  varint                   number of runs of consecutive tokens
    -  2 varints a run          tokens skipped since the last run, tokens in this run
    -  payloads                 K of each sent layer ascending, then V
    4  CRC-32 of all before

A varint holds 7 bits a byte, lowest first, and has its shortest form. Nothing says how long the
packet is: header and codec do, and any other length is refused before anything is allocated.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from c2c.cache import Geometry, KVCache
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.registry import BY_NUMBER

MAGIC = b"LWKV"
VERSION = 1
IDENTITY_BYTES = 8
_FIXED = struct.Struct("<4sBB8sHHH")
_CHECKSUM_BYTES = 4
_LARGEST_VARINT = 2**32 - 1


class PacketError(ValueError):
    """Bytes that are not a packet for this pair; the text says why."""


@dataclass(frozen=True)
class Header:
    """All that a packet says besides the numbers of the cache."""

    codec: Codec
    identity: bytes
    geometry: Geometry
    key_layers: tuple[int, ...]  # sharer layers whose K is sent, ascending
    value_layers: tuple[int, ...]
    runs: tuple[range, ...]  # kept positions of the prompt, ascending, not touching
    first_position: int = 0  # position of the prompt's first token in its conversation

    @property
    def tokens(self) -> int:
        return sum(map(len, self.runs))

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, T, D] of every tensor sent."""
        return self.geometry.kv_heads, self.tokens, self.geometry.head_dim

    def payload_bytes(self) -> int:
        """Length of all payloads."""
        tensors = len(self.key_layers) + len(self.value_layers)
        return self.codec.payload_bytes(self.shape) * tensors


def encode(cache: KVCache, header: Header) -> bytes:
    """The packet for `cache`: the kept tokens of one example, tensors [1, H, T, D].

    Raises PacketError when the cache is not what the header says or cannot be encoded.
    """
    if cache.layers != header.geometry.layers or tuple(cache.keys[0].shape) != (1, *header.shape):
        raise PacketError(
            f"the cache has {cache.layers} layers of {list(cache.keys[0].shape)},"
            f" the header says {header.geometry.layers} of {[1, *header.shape]}"
        )
    try:
        parts = [header.codec.encode(cache.keys[layer][0]) for layer in header.key_layers]
        parts += [header.codec.encode(cache.values[layer][0]) for layer in header.value_layers]
    except CodecError as error:
        raise PacketError(str(error)) from None
    body = b"".join([encode_header(header), *parts])
    return body + struct.pack("<I", zlib.crc32(body))


def encode_header(header: Header) -> bytes:
    """The bytes before the payloads."""
    geometry = header.geometry
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        header.codec.number,
        header.identity,
        geometry.layers,
        geometry.kv_heads,
        geometry.head_dim,
    )
    numbers = [header.first_position, len(header.runs)]
    end = 0
    for run in header.runs:
        numbers += [run.start - end, len(run)]
        end = run.stop
    masks = _mask(header.key_layers, geometry.layers) + _mask(header.value_layers, geometry.layers)
    return fixed + masks + b"".join(map(_varint, numbers))


def packet_bytes(header: Header) -> int:
    """`len(encode(cache, header))`, without encoding."""
    return len(encode_header(header)) + header.payload_bytes() + _CHECKSUM_BYTES


def decode(
    data: bytes, geometry: Geometry, identity: bytes, dtype: torch.dtype = torch.float32
) -> tuple[Header, KVCache]:
    """Header and kept tokens (tensors [1, H, T, D] on the CPU) of a packet for this pair.

    Tensors that were not sent are NaN, so that using one cannot go unnoticed. Any other input
    raises PacketError; nothing larger than the packet implies is allocated.
    """
    header, start = decode_header(data)
    if header.identity != identity:
        raise PacketError(
            f"the packet is for pair {header.identity.hex()}, this one is {identity.hex()}"
        )
    if header.geometry != geometry:
        raise PacketError(f"the packet is of {header.geometry}, the sharer is {geometry}")
    size = header.codec.payload_bytes(header.shape)
    view = memoryview(data)
    unsent = torch.full((), torch.nan, dtype=dtype).expand(1, *header.shape)
    tensors = {"key": [unsent] * geometry.layers, "value": [unsent] * geometry.layers}
    for kind, layers in (("key", header.key_layers), ("value", header.value_layers)):
        for layer in layers:
            try:
                tensor = header.codec.decode(view[start : start + size], header.shape)
            except CodecError as error:
                raise PacketError(f"{kind} of layer {layer}: {error}") from None
            tensors[kind][layer] = tensor.to(dtype)[None]
            start += size
    return header, KVCache(tuple(tensors["key"]), tuple(tensors["value"]))


def decode_header(data: bytes) -> tuple[Header, int]:
    """The header and where the payloads start, once length and checksum are right."""
    if len(data) < _FIXED.size + _CHECKSUM_BYTES:
        raise PacketError(f"{len(data)} bytes are too few for a packet")
    magic, version, number, identity, layers, kv_heads, head_dim = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise PacketError("the bytes do not start like a packet")
    if version != VERSION:
        raise PacketError(f"packet version {version} is unknown, this reads version {VERSION}")
    if number not in BY_NUMBER:
        raise PacketError(f"codec number {number} is unknown")
    if zlib.crc32(data[:-_CHECKSUM_BYTES]) != struct.unpack("<I", data[-_CHECKSUM_BYTES:])[0]:
        raise PacketError("the checksum is wrong: the packet is truncated or altered")
    if 0 in (layers, kv_heads, head_dim):
        raise PacketError("a cache of no layers, heads or channels is not a cache")
    reader = _Reader(data[:-_CHECKSUM_BYTES], _FIXED.size)
    key_layers, value_layers = reader.mask(layers), reader.mask(layers)
    first_position = reader.varint()
    runs: list[range] = []
    end = 0
    for _ in range(reader.varint()):
        start = end + reader.varint()
        if runs and start == end:
            raise PacketError("two runs of tokens touch")
        end = start + reader.varint()
        if end == start:
            raise PacketError("a run of tokens is empty")
        runs.append(range(start, end))
    if not runs:
        raise PacketError("the packet holds no tokens: for those, none is sent")
    geometry = Geometry(layers, kv_heads, head_dim)
    header = Header(
        BY_NUMBER[number], identity, geometry, key_layers, value_layers, tuple(runs), first_position
    )
    expected = reader.place + header.payload_bytes() + _CHECKSUM_BYTES
    if len(data) != expected:
        raise PacketError(f"the packet is {len(data)} bytes long, its header says {expected}")
    return header, reader.place


class _Reader:
    """Reads a header's variable part, never past its end."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place

    def byte(self) -> int:
        if self.place >= len(self.data):
            raise PacketError("the packet ends within its header")
        self.place += 1
        return self.data[self.place - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if value > _LARGEST_VARINT:
                raise PacketError("a number in the header is too large")
            if byte < 128:
                if byte == 0 and shift:
                    raise PacketError("a number in the header is not in its shortest form")
                return value
            shift += 7
            if shift > 35:
                raise PacketError("a number in the header is too long")

    def mask(self, layers: int) -> tuple[int, ...]:
        bits = int.from_bytes(bytes(self.byte() for _ in range(-(-layers // 8))), "little")
        if bits >> layers:
            raise PacketError(f"the packet names a layer past the last of {layers}")
        return tuple(layer for layer in range(layers) if bits >> layer & 1)


def _mask(layers: Sequence[int], count: int) -> bytes:
    return sum(1 << layer for layer in layers).to_bytes(-(-count // 8), "little")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
