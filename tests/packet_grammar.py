"""Packets built field by field, right or wrong in any of them.

Changing the bytes of right packets does not come upon stages in stages, thousands of runs, another
codec's payload or the like.
"""

import random
import struct
import zlib
from dataclasses import replace
from itertools import islice

from c2c.cache import Geometry
from c2c.sections import Runs, runs_of
from latentwire.channel.header_fields import mask, varint
from latentwire.channel.layout import Layout
from latentwire.channel.lossless import NUMBERS, compress
from latentwire.channel.pieces import joined
from latentwire.channel.registry import CALIBRATED, PER_TENSOR, codec

PLANES, KLT_PLANES = codec("planes8").number, codec("planes8_klt").number
STAGES = tuple(NUMBERS.values())
PLAIN = (*(made.number for made in PER_TENSOR.values()), *[PLANES] * 4)
NEED_CALIBRATION = tuple(codec(name).number for name in CALIBRATED)
SCHEDULE = 48
LARGE = (2**16, 2**17, 2**31, 2**32 - 1, 2**32, 2**40, 2**63)
SIZES = (0, 1, 2, 3, 5, 6, 7, 64, 255, 256, 65535)
BOMB_BYTES = 1 << 22
_BOMBS = {method: compress(bytes(BOMB_BYTES), method) for method in NUMBERS}


def build(pair: Layout, identity: bytes, digests: list[bytes], generator: random.Random) -> bytes:
    """A packet for a pair whose packets have the layout `pair`, or nearly one."""
    pick = generator.random
    geometry = pair.geometry if pick() < 0.9 else Geometry(*generator.choices(SIZES, k=3))
    layout = _layout(pair, geometry, generator)
    number, parameters = _codec(layout, digests, generator)
    usual = 3 if number in (PLANES, KLT_PLANES) else 2 if layout.text_tokens else 1
    version = usual if pick() < 0.99 else generator.randrange(256)
    identity = identity if pick() < 0.98 else generator.randbytes(8)
    sizes = (geometry.layers, geometry.kv_heads, geometry.head_dim)
    header = b"LWKV" + bytes([version, number]) + identity + struct.pack("<HHH", *sizes)
    for layers in (layout.key_layers, layout.value_layers):
        bits = mask(layers, geometry.layers)
        header += bits if pick() < 0.98 else generator.randbytes(len(bits))
    header += _number(layout.first_position, generator)
    if layout.text_tokens or version == 3:
        header += _number(layout.text_tokens, generator)
    header += _runs(layout, generator)
    if version == 3:
        return sealed(header + parameters, *_planes(layout, number, generator), generator)
    body = header + parameters + _payload(number, parameters, layout, generator)
    if pick() < 0.05:
        body = body[: generator.randrange(len(body) + 1)]
    if pick() < 0.05:
        body += generator.randbytes(generator.choice((1, 4, 100)))
    return body + struct.pack("<I", zlib.crc32(body))


def sealed(header: bytes, head: bytes, stream: bytes, generator: random.Random) -> bytes:
    """A packet of version 3 with its checks, of which one is rarely wrong; it may be cut."""
    packet = bytearray(header + struct.pack("<I", zlib.crc32(header)) + joined(head, stream))
    if generator.random() < 0.2:
        del packet[generator.randrange(len(packet) + 1) :]
    if generator.random() < 0.02 and packet:
        packet[generator.randrange(len(packet))] ^= 1 << generator.randrange(8)
    if generator.random() < 0.02:
        packet += generator.randbytes(generator.choice((1, 4, 1024)))
    return bytes(packet)


def _planes(layout: Layout, number: int, generator: random.Random) -> tuple[bytes, bytes]:
    """Head and stream of `planes`, mostly such as mean something."""
    rows = min(layout.geometry.kv_heads * layout.geometry.head_dim, 1 << 16)
    tensors = layout.sent[:256]
    floats = [_block(4 * rows, generator) for _ in range(generator.random() < 0.1)]
    floats.append(struct.pack("<4e", 1, 0.3, 300, 1e-6) * rows)  # all are reaches that are fine
    length = rows if number == KLT_PLANES else 4 * rows
    head = b"".join(generator.randbytes(7) + generator.choice(floats)[:length] for _ in tensors)
    stream = b""
    for _ in range(generator.choice((0, 1, 5, 40)) if tensors else 0):
        place = generator.randrange(len(tensors) + (generator.random() < 0.02))
        numbers = min(rows * layout.tokens_of(tensors[place - 1][1]), 1 << 12)
        stream += bytes([place & 255]) + generator.randbytes(-(-numbers // 8))
    return head, stream[: generator.choice((1 << 20, len(stream) // 2))]


def _layout(pair: Layout, geometry: Geometry, generator: random.Random) -> Layout:
    """Any layers and runs; from time to time the pair's own layers."""

    def some() -> tuple[int, ...]:
        count = min(geometry.layers, generator.choice((0, 1, 2, 3, 3000)))
        return tuple(sorted(generator.sample(range(geometry.layers), count)))

    own = geometry == pair.geometry and generator.random() < 0.6
    keys, values = (pair.key_layers, pair.value_layers) if own else (some(), some())
    runs, end = [], 0
    (count,) = generator.choices((1, 2, 3, 40, 5000), (50, 20, 15, 12, 3))
    for place in range(count):
        start = end + generator.choice((1, 1, 2, 300) if place else (0, 4, 130))
        end = start + generator.choice((1, 1, 2, 5))
        runs.append(range(start, end))
    if generator.random() < 0.05:  # more than anybody has
        runs.append(range(end + 1, end + 1 + generator.choice(LARGE[:4])))
    first = generator.choice((0, 0, 5, 2**31, 2**32 - 1))
    longer = generator.choice((0, 0, 0, 1, 50, -1)) if runs else 0
    told = max(0, runs[-1].stop + longer) if longer else 0
    layout = Layout(geometry, keys, values, tuple(runs), first, text_tokens=told)
    if generator.random() < 0.2 and len(runs) < 50:
        layout = replace(layout, by_layer=_by_layer(layout, generator))
    return layout


def _by_layer(layout: Layout, generator: random.Random) -> tuple[Runs, ...]:
    """Some of the sections' tokens for each layer; from time to time others."""
    tokens = list(islice((position for run in layout.runs for position in run), 64))
    if generator.random() < 0.02:
        tokens.append(generator.randrange(1000))
    most = len(tokens) if generator.random() < 0.95 else 0
    return tuple(
        runs_of(generator.sample(tokens, generator.randint(0, most))) if layer < 300 else ()
        for layer in range(layout.geometry.layers)
    )


def _number(value: int, generator: random.Random) -> bytes:
    """A varint; rarely another number, or one not in its shortest form."""
    if generator.random() < 0.005:
        return varint(generator.choice((0, 1, *LARGE)))
    written = varint(value)
    if generator.random() < 0.005:
        return written[:-1] + bytes([written[-1] | 128, 0])
    return written


def _runs(layout: Layout, generator: random.Random) -> bytes:
    out = bytearray(_number(0, generator) if layout.by_layer else b"")
    layers = sorted({*layout.key_layers, *layout.value_layers}) if layout.by_layer else []
    for runs in (layout.runs, *(layout.by_layer[layer] for layer in layers)):
        out += _number(len(runs), generator)
        end = 0
        for run in runs:
            out += _number(run.start - end, generator) + _number(len(run), generator)
            end = run.stop
    return bytes(out)


def _codec(layout: Layout, digests: list[bytes], generator: random.Random) -> tuple[int, bytes]:
    """A codec's number and parameters; stages stand in stages, three thousand deep at times."""
    nested = b""
    while generator.random() < 0.35 and len(nested) < 8:
        nested += bytes([generator.choice(STAGES)])
        if generator.random() < 0.02:
            nested += bytes(generator.choices(STAGES, k=3000))
    kind = generator.random()
    if kind < 0.5:
        whole = nested + bytes([generator.choice(PLAIN)])
    elif kind < 0.7:
        digest = generator.choice((*digests, *digests, generator.randbytes(8)))
        whole = nested + bytes([generator.choice(NEED_CALIBRATION)]) + digest
    elif kind < 0.95:
        whole = nested + bytes([SCHEDULE]) + _stretches(layout, generator)
    else:
        whole = nested + bytes([generator.randrange(256)])
    return whole[0], whole[1:]


def _stretches(layout: Layout, generator: random.Random) -> bytes:
    out, left, last = b"", len(layout.sent), -1
    while left > 0:
        count = generator.randint(1, left) if generator.random() < 0.98 else left + 1
        number = generator.choice(PLAIN)
        while number == last and generator.random() < 0.98:
            number = generator.choice(PLAIN)
        out, left, last = out + bytes([number]) + _number(count, generator), left - count, number
    return out


def _payload(number: int, parameters: bytes, layout: Layout, generator: random.Random) -> bytes:
    """Mostly of the right length, of numbers that mean something or not."""
    length = _length(number, parameters, layout)
    if number in STAGES:
        method = "zstd" if number == NUMBERS["zstd"] else "lzma"
        if generator.random() < 0.05:
            return _BOMBS[method]
        return compress(_block(length, generator), method)
    return _block(length, generator)


def _length(number: int, parameters: bytes, layout: Layout) -> int:
    """Of the payload before a lossless stage; a guess where the header does not tell it."""
    if 0 in (layout.geometry.kv_heads, layout.tokens, layout.geometry.head_dim):
        return 8
    inner = parameters[0] if number in STAGES and parameters else number
    for made in PER_TENSOR.values():
        if made.number == inner:
            return min(made.payload_bytes(layout), 1 << 16)
    if inner == SCHEDULE and number == SCHEDULE:
        return _scheduled_length(parameters, layout)
    return min(layout.elements, 1 << 10)


def _scheduled_length(parameters: bytes, layout: Layout) -> int:
    by_number = {made.number: made for made in PER_TENSOR.values()}
    total, sent = 0, list(layout.sent)
    pairs = zip(parameters[::2], parameters[1::2], strict=False)
    for number, count in pairs:  # counts of one byte: more tensors are a guess
        for kind, layer in sent[:count]:
            codec_of = by_number[number].at(kind, layer) if number in by_number else None
            total += codec_of.payload_bytes(layout.shape_of(layer)) if codec_of else 0
        sent = sent[count:]
    return min(total, 1 << 16)


def _block(length: int, generator: random.Random) -> bytes:
    match generator.randrange(4):
        case 0:
            return bytes(length)
        case 1:  # halves of one: scales and numbers that are fine
            return (b"\0\x3c" * (length // 2 + 1))[:length]
        case 2:  # floats of one
            return (b"\0\0\x80\x3f" * (length // 4 + 1))[:length]
        case _:
            return generator.randbytes(length)
