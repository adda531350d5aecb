"""A reader of packets written from docs/WIRE.md, and from nothing else: it uses no code of
LatentWire's, so that what the page leaves out cannot be read here.

`read` takes any packet and gives its header's fields and, by kind and layer, float32 arrays
[H, T, D]. It believes what it reads and looks for no attack.
"""

import json
import lzma
import struct
import zlib
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import zstandard

Array = np.ndarray
WORD = 2**64 - 1  # arithmetic modulo 2^64

RAW = {1: "bf16", 2: "fp16", 3: "fp32"}
GROUP = 32
NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
LLOYD_MAX = {
    1: [0.7978845608028654],
    2: [0.4527800346364912, 1.5104176084990946],
    3: [0.24509417894422095, 0.7560052812058762, 1.3439092785049973, 2.1519457045369856],
    4: [
        *(0.1283950298511459, 0.3880482994902879, 0.65675911853246, 0.9423404564869579),
        *(1.256231197347172, 1.6180463860218763, 2.0690172265313853, 2.7325895709951595),
    ],
}
TURBO_BITS = (1, 1.5, 2, 2.5, 3, 3.5, 4)
KVTC_RATES = {60: "0.5", 61: "1", 62: "2", 63: "3"}
KLT_RATES = {64: "1", 65: "1.5", 66: "2", 67: "2.25", 68: "3"}
RATES = KVTC_RATES | KLT_RATES


@dataclass
class Packet:
    """What a packet says."""

    identity: bytes
    layers: int
    heads: int
    head_dim: int
    key_layers: list[int]
    value_layers: list[int]
    positions: list[int]  # of the sections' tokens, in their conversation
    by_layer: dict[int, list[int]]  # what each layer sends of them
    tensors: dict[tuple[str, int], Array]  # by "key" or "value", and layer
    text_tokens: int = 0  # of the sharer's whole prompt, where the packet says it

    def shape(self, layer: int) -> tuple[int, int, int]:
        return self.heads, len(self.by_layer[layer]), self.head_dim

    @property
    def sent(self) -> list[tuple[str, int]]:
        both = [("key", n) for n in self.key_layers] + [("value", n) for n in self.value_layers]
        return [(kind, layer) for kind, layer in both if self.by_layer[layer]]


class Bytes:
    """Bytes read one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data), "the bytes end too early"
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def layers(self, count: int) -> list[int]:
        bits = int.from_bytes(self.take(ceil(count / 8)), "little")
        return [layer for layer in range(count) if bits >> layer & 1]

    def floats(self, count: int, kind: str) -> Array:
        """float32 numbers from a float16 (`<f2`) or float32 (`<f4`) field."""
        size = np.dtype(kind).itemsize
        return np.frombuffer(self.take(count * size), kind).astype(np.float32)

    def codes(self, count: int, bits: int) -> Array:
        packed = np.frombuffer(self.take(ceil(count * bits / 8)), np.uint8)
        planes = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
        return (planes.astype(np.int64) << np.arange(bits)).sum(1)


def read(data: bytes, calibration: dict[str, Array] | None = None) -> Packet:
    """The packet in `data`; `calibration` is what `read_calibration` gave."""
    assert data[:4] == b"LWKV" and data[4] in (1, 2, 3)
    if data[4] != 3:
        assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    fields = Bytes(data if data[4] == 3 else data[:-4])
    fields.take(5)
    number, identity = fields.take(1)[0], fields.take(8)
    layers, heads, head_dim = struct.unpack("<HHH", fields.take(6))
    key_layers, value_layers = fields.layers(layers), fields.layers(layers)
    first = fields.varint()
    text = fields.varint() if data[4] in (2, 3) else 0
    count = fields.varint()
    positions = runs(fields, first, count or fields.varint())
    named = sorted({*key_layers, *value_layers})
    by_layer = dict.fromkeys(named, positions)
    if count == 0:
        by_layer = {layer: runs(fields, first, fields.varint()) for layer in named}
    packet = Packet(
        identity, layers, heads, head_dim, key_layers, value_layers, positions, by_layer, {}, text
    )
    assert (number in (70, 71)) == (data[4] == 3)
    if data[4] == 3:
        coding = Coding([], rate="3", by_layer=True)
        if number == 71:
            assert calibration is not None and fields.take(8) == calibration["digest"].tobytes()
        check = zlib.crc32(data[: fields.at])
        assert fields.take(4) == struct.pack("<I", check)
        used = [
            tables(calibration or {}, coding, *site) if number == 71 else {} for site in packet.sent
        ]
        read_planes(fields, packet, used, calibration or {})
        return packet
    coding = parameters(fields, number, packet, calibration or {})
    if coding.stage:
        block = fields.take(len(fields.data) - fields.at)
        fields = Bytes(decompress(block, coding) if packet.sent else block)
    if coding.classes:
        packet.tensors = by_class(fields, coding, packet)
    elif coding.rate:
        packet.tensors = transformed(fields, coding, packet, calibration or {})
    else:
        for (kind, layer), codec in zip(packet.sent, coding.codecs, strict=True):
            tensor = decode(codec, kind, fields, packet.shape(layer))
            if 40 <= codec <= 46 and kind == "key":
                assert calibration is not None
                at = packet.by_layer[layer]
                mean = np.repeat(calibration["key_mean"][layer][:, None], len(at), 1)
                tensor = tensor + turned(mean, at, calibration)
            packet.tensors[kind, layer] = tensor
    assert fields.at == len(fields.data), "bytes are left"
    return packet


def runs(fields: Bytes, position: int, count: int) -> list[int]:
    """The positions of `count` runs of tokens."""
    positions: list[int] = []
    for _ in range(count):
        position += fields.varint()
        length = fields.varint()
        positions += range(position, position + length)
        position += length
    return positions


@dataclass
class Coding:
    """How the payload is coded."""

    codecs: list[int]  # of each tensor sent
    stage: str = ""  # lossless, or none
    rate: str = ""  # of `kvtc` or `klt`, or none
    by_layer: bool = False  # `klt`
    number_bytes: int = 1  # that the lossless stage's block is sorted by
    classes: tuple[tuple[int, list[int]], ...] = ()  # codec and places of each class of tokens


def parameters(fields: Bytes, number: int, packet: Packet, calibration: dict[str, Array]) -> Coding:
    """The codec and its parameters."""
    stage = {49: "zstd", 50: "lzma"}.get(number, "")
    if stage:
        number = fields.take(1)[0]
        assert number not in (49, 50, *RATES)
    if number == 72:
        numbers, tokens = list(fields.take(fields.take(1)[0])), len(packet.positions)
        bits = ceil(np.log2(len(numbers)))
        told = fields.codes(tokens, bits) if bits else np.zeros(tokens, int)
        places = [np.flatnonzero(told == place).tolist() for place in range(len(numbers))]
        return Coding([], classes=tuple(zip(numbers, places, strict=True)))
    if 40 <= number <= 46 or number in RATES:
        assert fields.take(8) == calibration["digest"].tobytes()
    if number != 48:
        codecs = [number] * len(packet.sent)
        number_bytes = {1: 2, 2: 2, 3: 4}.get(number, 1)
        return Coding(codecs, stage, RATES.get(number, ""), number in KLT_RATES, number_bytes)
    codecs = []
    while len(codecs) < len(packet.sent):
        codec, count = fields.take(1)[0], fields.varint()
        codecs += [codec] * count
    return Coding(codecs, stage)


def by_class(fields: Bytes, coding: Coding, packet: Packet) -> dict[tuple[str, int], Array]:
    """The tensors of a packet whose tokens have classes."""
    shape = packet.heads, len(packet.positions), packet.head_dim
    tensors = {site: np.empty(shape, np.float32) for site in packet.sent}
    for codec, places in coding.classes:
        for (kind, _), tensor in tensors.items():
            part = packet.heads, len(places), packet.head_dim
            tensor[:, places] = decode(codec, kind, fields, part)
    return tensors


def decompress(block: bytes, coding: Coding) -> bytes:
    """The inner payload, its bytes in their own order."""
    if coding.stage == "lzma":
        own = {"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 23}
        plain = lzma.decompress(block, lzma.FORMAT_RAW, filters=[own])
    else:
        plain = unpacked(block)
    return np.frombuffer(plain, np.uint8).reshape(coding.number_bytes, -1).T.tobytes()


def unpacked(frame: bytes) -> bytes:
    """What a Zstandard frame without its magic number holds."""
    whole = b"\x28\xb5\x2f\xfd" + frame
    return zstandard.ZstdDecompressor().decompress(whole, max_output_size=1 << 24)


def read_text(data: bytes, zstd: bool) -> str:
    """A text that was sent as it is, or with `zstd`."""
    return (unpacked(data) if zstd and data else data).decode()


def decode(codec: int, kind: str, fields: Bytes, shape: tuple[int, int, int]) -> Array:
    """One tensor's payload."""
    heads, tokens, head_dim = shape
    numbers = heads * tokens * head_dim
    if codec in (1, 2, 3):
        return raw(codec, fields, numbers).reshape(shape)
    if 8 <= codec <= 23:
        return integers(codec, fields, shape)
    if codec == 24:
        scale = by_block(
            fields.floats(heads * tokens * ceil(head_dim / GROUP), "<f2"), shape, GROUP
        )
        return NF4[fields.codes(numbers, 4)].reshape(shape) * scale
    if codec in (25, 26):
        scale = fields.floats(heads, "<f4").reshape(heads, 1, 1)
        small = np.frombuffer(fields.take(numbers), np.uint8)
        return fp8(small, *((4, 3, 7) if codec == 25 else (5, 2, 15))).reshape(shape) * scale
    if codec == 27:
        exponents = np.frombuffer(fields.take(heads * tokens * ceil(head_dim / GROUP)), np.uint8)
        codes = fields.codes(numbers, 4).reshape(shape)
        signed = np.where(codes & 8, -FP4[codes & 7], FP4[codes & 7])
        return np.ldexp(signed, by_block(exponents.astype(np.int32) - 127, shape, GROUP))
    if 28 <= codec <= 31:
        return kivi((8, 4, 3, 2)[codec - 28], kind, fields, shape)
    assert 32 <= codec <= 38 or 40 <= codec <= 46
    return rotate(TURBO_BITS[codec % 8], fields, shape)


def raw(codec: int, fields: Bytes, count: int) -> Array:
    if codec == 1:
        upper = np.frombuffer(fields.take(2 * count), "<u2").astype(np.uint32)
        return (upper << 16).view(np.float32)
    return fields.floats(count, "<f2" if codec == 2 else "<f4")


def integers(codec: int, fields: Bytes, shape: tuple[int, int, int]) -> Array:
    heads, tokens, head_dim = shape
    bits = (8, 4, 3, 2)[codec % 4]
    where = ("head", "layer", "token", "group")[codec // 4 - 2]
    if where == "head":
        scale = fields.floats(heads, "<f4").reshape(heads, 1, 1)
    elif where == "layer":
        scale = fields.floats(1, "<f4").reshape(1, 1, 1)
    else:
        size = head_dim if where == "token" else GROUP
        scale = fields.floats(heads * tokens * ceil(head_dim / size), "<f2")
        scale = by_block(scale, shape, size)
    codes = fields.codes(heads * tokens * head_dim, bits) - (2 ** (bits - 1) - 1)
    return codes.astype(np.float32).reshape(shape) * scale


def read_planes(
    fields: Bytes, packet: Packet, used: list[dict[str, Array]], calibration: dict[str, Array]
) -> None:
    """The tensors of a payload that may have been cut; `used` are the tables of each, or empty."""
    begin = fields.at
    length = fields.varint()
    heads = [plane_head(fields, packet.heads * packet.head_dim, table) for table in used]
    codes = [
        np.zeros((len(head[1]), len(packet.by_layer[layer])), np.int64)
        for head, (_, layer) in zip(heads, packet.sent, strict=True)
    ]
    planes = [np.zeros_like(each) for each in codes]
    octaves = [np.frexp(reach)[1].max(initial=-99) - np.frexp(reach)[1] for _, reach, _ in heads]
    stream = Bytes(pieces(fields, fields.data[begin : fields.at], length))
    place_bytes = next(n for n in (1, 2, 3) if len(heads) - 1 < 256**n)
    levels_read = [0] * len(heads)
    while stream.at + place_bytes < len(stream.data):
        place = int.from_bytes(stream.take(place_bytes), "little")
        plane = levels_read[place] - octaves[place]
        levels_read[place] += 1
        while not ((plane >= 0) & (plane < 8)).any():
            plane = levels_read[place] - octaves[place]
            levels_read[place] += 1
        at = np.argwhere(((plane >= 0) & (plane < 8))[:, None] & (codes[place] >= 0))
        count = min(ceil(len(at) / 8), len(stream.data) - stream.at)
        packed = np.frombuffer(stream.take(count), np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[: len(at)].astype(np.int64)
        row, token = at[: len(bits)].T
        codes[place][row, token] += bits << (7 - plane[row])
        planes[place][row, token] += 1
    shape = packet.heads, packet.head_dim
    for site, code, known, head, table in zip(packet.sent, codes, planes, heads, used, strict=True):
        value = plane_values(code, known, *head)
        if table:
            z = value.astype(np.float64)
            value = (table["basis"].astype(np.float64) @ z + table["mean"][:, None]).astype("f4")
        tensor = value.reshape(*shape, -1).transpose(0, 2, 1)
        if table and site[0] == "key":
            tensor = turned(tensor, packet.by_layer[site[1]], calibration)
        packet.tensors[site] = tensor


def plane_head(fields: Bytes, rows: int, table: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Levels, and each row's reach and centre."""
    levels = np.frombuffer(fields.take(7), np.uint8).astype(np.int64)
    if not table:
        return levels, fields.floats(rows, "<f2"), fields.floats(rows, "<f2")
    upper = np.frombuffer(fields.take(int(table["sizes"].sum())), np.uint8).astype(np.uint16)
    reach = (upper << 7).view(np.float16).astype(np.float32)
    return levels, reach, np.zeros_like(reach)


def pieces(fields: Bytes, before: bytes, length: int) -> bytes:
    """The stream, as far as it is there and checked."""
    check = zlib.crc32(before)
    assert fields.take(4) == struct.pack("<I", check)
    stream = b""
    while len(stream) < length:
        size = min(1020, length - len(stream))
        if len(fields.data) - fields.at < size + 4:
            return stream
        stream += fields.take(size)
        assert fields.take(4) == struct.pack("<I", zlib.crc32(before + stream))
    assert fields.at == len(fields.data), "bytes are left"
    return stream


def plane_values(code: Array, planes: Array, levels: Array, reach: Array, centre: Array) -> Array:
    below = np.where(code >= 128, code - 128, 127 - code)  # of a code whose unknown bits are 0
    m = below >> (8 - planes)
    first = 2 ** np.maximum(planes - 1, 0) - 1
    few = levels[np.where((planes >= 1) & (planes <= 3), first + m, 0)]
    level = np.where(planes <= 3, few, (2 * m + 1) << (8 - planes))
    level = np.where(planes == 0, 0, np.where(code >= 128, level, -level))
    return level.astype(np.float32) * (reach / np.float32(256))[:, None] + centre[:, None]


def by_block(scale: Array, shape: tuple[int, int, int], size: int) -> Array:
    """A scale for every number, from one for every block of `size` channels."""
    heads, tokens, head_dim = shape
    each = scale.reshape(heads, tokens, ceil(head_dim / size))
    return np.repeat(each, size, axis=2)[:, :, :head_dim]


def fp8(small: Array, exponent_bits: int, mantissa_bits: int, bias: int) -> Array:
    small = small.astype(np.int64)
    exponent = small >> mantissa_bits & (1 << exponent_bits) - 1
    fraction = (small & (1 << mantissa_bits) - 1) / 2**mantissa_bits
    usual = np.ldexp(1 + fraction, exponent - bias)
    magnitude = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), usual)
    return np.where(small >> 7, -magnitude, magnitude).astype(np.float32)


def kivi(bits: int, kind: str, fields: Bytes, shape: tuple[int, int, int]) -> Array:
    heads, tokens, head_dim = shape
    kept = (heads, 1, head_dim) if kind == "key" else (heads, tokens, 1)
    scale = fields.floats(int(np.prod(kept)), "<f2").reshape(kept)
    zero = fields.floats(int(np.prod(kept)), "<f2").reshape(kept)
    codes = fields.codes(heads * tokens * head_dim, bits).astype(np.float32).reshape(shape)
    return codes * scale + zero


def rotate(bits: float, fields: Bytes, shape: tuple[int, int, int]) -> Array:
    heads, tokens, head_dim = shape
    scale = fields.floats(heads * tokens, "<f2").reshape(heads, tokens, 1)
    sizes = [1 << bit for bit in reversed(range(16)) if head_dim >> bit & 1]
    streams = [(int(bits), list(range(head_dim)))]
    if bits != int(bits):
        finer, start = [], 0
        for size in sizes:
            finer += range(start, start + ceil(size / 2))
            start += size
        rest = [channel for channel in range(head_dim) if channel not in set(finer)]
        streams = [(int(bits) + 1, finer), (int(bits), rest)]
    y = np.empty(shape, np.float32)
    for width, channels in streams:
        upper = LLOYD_MAX[width]
        levels = np.array([*(-level for level in reversed(upper)), *upper], np.float32)
        codes = fields.codes(heads * tokens * len(channels), width)
        y[:, :, channels] = levels[codes].reshape(heads, tokens, len(channels))
    norm = np.array([size**-0.5 for size in sizes for _ in range(size)], np.float32)
    start = 0
    for size in sizes:
        y[:, :, start : start + size] = hadamard(y[:, :, start : start + size])
        start += size
    return y * (scale * norm) * signs(head_dim)


def hadamard(x: Array) -> Array:
    size, step = x.shape[-1], 1
    while step < size:
        pairs = x.reshape(*x.shape[:-1], size // (2 * step), 2, step)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([first + second, first - second], -2).reshape(x.shape)
        step *= 2
    return x


def signs(head_dim: int) -> Array:
    found = []
    for channel in range(head_dim):
        z = 0x4C6174656E745769 + head_dim * 0xD1342543DE82EF95
        z = (z + (channel + 1) * 0x9E3779B97F4A7C15) & WORD
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & WORD
        found.append(-1.0 if (z ^ z >> 31) >> 63 else 1.0)
    return np.array(found, np.float32)


def turned(x: Array, positions: list[int], calibration: dict[str, Array]) -> Array:
    """float32 [H, T, D] turned to the tokens' positions."""
    half = x.shape[-1] // 2
    angle = np.outer(positions, calibration["inverse_frequencies"])
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    both = [first * cos - second * sin, second * cos + first * sin]
    return np.concatenate(both, -1).astype(np.float32)


def transformed(
    fields: Bytes, coding: Coding, packet: Packet, calibration: dict[str, Array]
) -> dict[tuple[str, int], Array]:
    if coding.by_layer:
        blocks = [[site] for site in packet.sent]
    else:
        kinds = dict.fromkeys(kind for kind, _ in packet.sent)
        blocks = [[site for site in packet.sent if site[0] == kind] for kind in kinds]
    lengths = [fields.varint() for _ in blocks[:-1]]
    tensors = {}
    for block in blocks:
        kind, first = block[0]
        at = packet.by_layer[first]
        stream = fields.take(lengths.pop(0) if lengths else len(fields.data) - fields.at)
        table = tables(calibration, coding, kind, first)
        codes = range_decoded(stream, table, len(at))
        step, pull = (
            np.repeat(table[n].astype(np.float64), table["sizes"]) for n in ("step", "pull")
        )
        z = step * np.sign(codes) * (np.abs(codes) - pull)
        x = (z @ table["basis"].astype(np.float64).T + table["mean"]).astype(np.float32)
        shape = (len(at), len(block), packet.heads, packet.head_dim)
        for site, tensor in zip(block, x.reshape(shape).transpose(1, 2, 0, 3), strict=True):
            tensors[site] = turned(tensor, at, calibration) if kind == "key" else tensor
    return tensors


def tables(
    calibration: dict[str, Array], coding: Coding, kind: str, layer: int
) -> dict[str, Array]:
    """The parts of a transform's tables."""
    own = ("sizes", "step", "pull", "clip", "frequencies")
    if not coding.by_layer:
        names = ("mean", "basis", *own)
        return {name: calibration[f"{kind}.{coding.rate}.{name}"] for name in names}
    start = f"{kind}.layer{layer}"
    table = {name: calibration[f"{start}.{coding.rate}.{name}"] for name in own}
    columns = calibration[f"{start}.{coding.rate}.columns"]
    basis = calibration[f"{start}.basis"][:, columns]
    return table | {"mean": calibration[f"{start}.mean"], "basis": basis}


def range_decoded(stream: bytes, table: dict[str, Array], tokens: int) -> Array:
    """Codes [T, R]."""
    padded = Bytes(stream + bytes(4 * tokens * int(table["sizes"].sum()) + 12))
    lower, width = 0, WORD
    point = int.from_bytes(padded.take(8), "big")
    codes = np.zeros((tokens, int(table["sizes"].sum())), np.int64)
    column = start = 0
    for size, clip in zip(table["sizes"].tolist(), table["clip"].tolist(), strict=True):
        count = 2 * clip + 1
        frequencies = table["frequencies"][start : start + count].astype(np.int64)
        before = np.concatenate([[0], np.cumsum(frequencies)[:-1]])
        left = [*(before * (2**24 - count) // 65536 + np.arange(count)).tolist(), 2**24]
        for token in range(tokens):
            for component in range(column, column + size):
                scale = width >> 24
                quantile = ((point - lower) & WORD) // scale
                symbol = int(np.searchsorted(left, quantile, side="right")) - 1
                assert symbol < count
                codes[token, component] = symbol - clip
                lower = (lower + scale * left[symbol]) & WORD
                width = scale * (left[symbol + 1] - left[symbol])
                if width < 1 << 32:
                    lower, width = lower << 32 & WORD, width << 32
                    point = point << 32 & WORD | int.from_bytes(padded.take(4), "big")
        column, start = column + size, start + count
    return codes


def read_calibration(data: bytes, digest: bytes) -> dict[str, Array]:
    """The tensors of a calibration file, and its `digest`, the sha256's first 8 bytes."""
    length = struct.unpack("<Q", data[:8])[0]
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    kinds = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "U8": "u1"}
    found = {"digest": np.frombuffer(digest, np.uint8)}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            part = data[8 + length + begin : 8 + length + end]
            found[name] = np.frombuffer(part, kinds[entry["dtype"]]).reshape(entry["shape"])
    return found
