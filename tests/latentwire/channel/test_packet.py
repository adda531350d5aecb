"""The packet's bytes: exact, as long as promised, and safe to read whoever wrote them."""

import random
import resource
import struct
import time
import zlib
from dataclasses import replace
from typing import Any

import pytest
import torch
import wide_packets
from any_layouts import differing
from fuzz_packets import fuzz
from golden_packets import (
    ALL,
    golden_calibration,
    golden_file,
    golden_geometry,
    golden_header,
    read_golden,
)
from golden_packets import IDENTITY as GOLDEN_IDENTITY
from hypothesis import given
from hypothesis import strategies as st

from c2c.cache import Geometry, KVCache
from latentwire.channel.describe import describe
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import (
    CUT_VERSION,
    Header,
    PacketError,
    around_bytes,
    decode,
    decode_header,
    encode,
    encode_header,
    packet_bytes,
)
from latentwire.channel.registry import (
    CODECS,
    EMBEDDED,
    EXAMPLES,
    PER_TENSOR,
    codec,
    needs_calibration,
)

GEOMETRY = Geometry(layers=3, kv_heads=2, head_dim=5)
IDENTITY = b"the pair"
LAYOUT = Layout(GEOMETRY, (0, 2), (1,), (range(4, 7),))
HEADER = Header(codec("int4"), IDENTITY, LAYOUT)
NAMES = (*PER_TENSOR, *EMBEDDED, *EXAMPLES)
FIXED_BYTES = 20


def make_cache(geometry: Geometry, tokens: int, seed: int = 0) -> KVCache:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, geometry.kv_heads, tokens, geometry.head_dim)

    def layers() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(shape, generator=generator) for _ in range(geometry.layers))

    return KVCache(layers(), layers())


def make_packet(header: Header = HEADER) -> bytes:
    return encode(make_cache(header.layout.geometry, header.layout.tokens), header)


def with_checksum(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def with_layout(**changes: Any) -> Header:
    return replace(HEADER, layout=replace(LAYOUT, **changes))


def refused(data: bytes, words: str, geometry: Geometry = GEOMETRY) -> None:
    with pytest.raises(PacketError, match=words) as caught:
        decode(data, geometry, IDENTITY)
    assert type(caught.value) is PacketError


@st.composite
def headers(draw: st.DrawFn) -> Header:
    layers = draw(st.integers(1, 20))
    geometry = Geometry(layers, draw(st.integers(1, 3)), draw(st.integers(1, 9)))
    subset = st.sets(st.integers(0, layers - 1)).map(lambda chosen: tuple(sorted(chosen)))
    runs, end = [], 0
    for number in range(draw(st.integers(1, 3))):
        start = end + draw(st.integers(1 if number else 0, 300))
        end = start + draw(st.integers(1, 5))
        runs.append(range(start, end))
    text = draw(st.sampled_from((0, end + 1, end + 300)))
    first_position = draw(st.integers(0, 2**32 - 1 - max(end, text)))
    layout = Layout(
        geometry, draw(subset), draw(subset), tuple(runs), first_position, text_tokens=text
    )
    return Header(
        codec(draw(st.sampled_from(NAMES))),
        draw(st.binary(min_size=8, max_size=8)),
        draw(differing(layout)),
    )


# What is written is what is read


@given(headers(), st.integers(0, 100))
def test_a_packet_says_what_was_said(header: Header, seed: int) -> None:
    layout = header.layout
    whole = make_cache(layout.geometry, layout.tokens, seed)
    counts = [layout.tokens_of(layer) for layer in range(whole.layers)]
    cache = KVCache(
        tuple(x[:, :, : max(1, n)] for x, n in zip(whole.keys, counts, strict=True)),
        tuple(x[:, :, : max(1, n)] for x, n in zip(whole.values, counts, strict=True)),
    )
    data = encode(cache, header)
    assert packet_bytes(header) in (len(data), None)
    found, start = decode_header(data)
    assert said(found) == said(header)
    behind = 4 if header.version == CUT_VERSION else 0  # the checksum
    assert start - behind == len(encode_header(header)) == len(encode_header(found))
    read, arrived = decode(data, layout.geometry, header.identity)
    assert said(read) == said(header)
    direct, lengths = header.codec.round_trip(cache, [layout])
    assert around_bytes(header) + lengths[0] == len(data)
    for site in layout.sent:
        assert torch.equal(tensor_of(arrived, *site), tensor_of(direct, *site))
    for kind, tensors in (("key", arrived.keys), ("value", arrived.values)):
        for layer, tensor in enumerate(tensors):
            assert bool(tensor.isnan().any()) == ((kind, layer) not in layout.sent)


def said(header: Header) -> tuple[object, ...]:
    """What a header says, whatever its codec is called: a schedule loses its name on the wire. The
    classes of tokens are parameters there."""
    return (
        header.codec.number,
        header.codec.parameters(header.layout),
        header.identity,
        replace(header.layout, classes=b""),
    )


def test_a_packet_by_hand() -> None:
    layout = Layout(Geometry(9, 1, 2), (0, 8), (1,), (range(200, 201),), 5)
    header = Header(codec("fp16"), IDENTITY, layout)
    cache = KVCache(
        tuple(torch.full((1, 1, 1, 2), float(layer)) for layer in range(9)),
        tuple(torch.full((1, 1, 1, 2), -float(layer)) for layer in range(9)),
    )
    body = (
        b"LWKV"
        + bytes([1, 2])
        + b"the pair"
        + struct.pack("<HHH", 9, 1, 2)
        + bytes([0b00000001, 0b00000001])  # K of layers 0 and 8
        + bytes([0b00000010, 0b00000000])  # V of layer 1
        + bytes([5, 1])  # first position, one run
        + bytes([200 & 127 | 128, 1, 1])  # 200 skipped, one token
        + struct.pack("<6e", 0, 0, 8, 8, -1, -1)
    )
    assert encode(cache, header) == with_checksum(body)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_read_in_the_dtype_asked_for(dtype: torch.dtype) -> None:
    cache = make_cache(GEOMETRY, 3).map(lambda tensor: tensor.to(dtype))
    _, arrived = decode(encode(cache, HEADER), GEOMETRY, IDENTITY, dtype)
    assert arrived.keys[0].dtype == arrived.keys[1].dtype == dtype
    assert torch.equal(arrived.values[1], HEADER.codec.round_trip(cache, [LAYOUT])[0].values[1])


def test_bytes_of_the_published_pair() -> None:
    """Qwen2.5-0.5B: 6,144 numbers a token, 12,288 bytes in 16 bits."""
    geometry = Geometry(layers=24, kv_heads=2, head_dim=64)
    layers = tuple(range(24))

    def header(name: str, tokens: int) -> Header:
        return Header(codec(name), IDENTITY, Layout(geometry, layers, layers, (range(tokens),)))

    for tokens in (1, 12, 118):
        data = make_packet(header("bf16", tokens))
        assert len(data) == 12_288 * tokens + len(encode_header(header("bf16", tokens))) + 4
        assert len(data) - 12_288 * tokens <= 40
    for tokens, share in ((118, 0.01), (12, 0.05)):
        data = make_packet(header("int4", tokens))
        codes = 6_144 * tokens // 2
        scales = 24 * 2 * 2 * 4
        assert len(data) - codes - scales <= 40
        assert len(data) - codes <= share * codes


def test_what_is_not_sent_costs_nothing() -> None:
    one = CODECS["int4"].payload_bytes(LAYOUT.shape)
    everything = with_layout(key_layers=(0, 1, 2), value_layers=(0, 1, 2))
    nothing = with_layout(key_layers=(), value_layers=())
    assert len(make_packet(everything)) - len(make_packet(HEADER)) == 3 * one
    assert len(make_packet(HEADER)) - len(make_packet(nothing)) == 3 * one
    _, arrived = decode(make_packet(nothing), GEOMETRY, IDENTITY)
    assert all(bool(torch.isnan(t).all()) for t in (*arrived.keys, *arrived.values))


def test_a_cache_that_the_header_does_not_describe_is_not_encoded() -> None:
    for cache in (
        make_cache(GEOMETRY, 4),
        make_cache(Geometry(2, 2, 5), 3),
        make_cache(Geometry(3, 1, 5), 3),
        make_cache(GEOMETRY, 3).map(lambda tensor: torch.cat([tensor, tensor])),
    ):
        with pytest.raises(PacketError, match=r"the header says (3|\[1, 2, 3, 5\])"):
            encode(cache, HEADER)
    broken = make_cache(GEOMETRY, 3)
    broken.values[1][0, 0, 0, 0] = torch.nan
    with pytest.raises(PacketError, match="NaN or infinite"):
        encode(broken, HEADER)


# The bytes never change


def test_every_codec_has_a_golden_packet() -> None:
    """`PYTHONPATH=.:C2C python tests/golden_packets.py` makes the one of a new codec."""
    assert [name for name in ALL if not golden_file(name).exists()] == []


@pytest.mark.parametrize("name", ALL)
def test_golden_packets_are_read_and_written_as_ever(name: str) -> None:
    data, sent, arrived = read_golden(name)
    header, found = decode(
        data, golden_geometry(name), GOLDEN_IDENTITY, calibration=golden_calibration(name)
    )
    assert said(header) == said(golden_header(name))
    # What a calibrated codec computes with cosines or matrices may round otherwise elsewhere.
    tolerance = 1e-5 if golden_calibration(name) else 0.0
    for ours, theirs in zip(
        (*found.keys, *found.values), (*arrived.keys, *arrived.values), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)
    # Another version of a compressor may find a shorter block; both must be read.
    if "+" not in name and "kvtc" not in name:
        assert encode(sent, golden_header(name)) == data


@pytest.mark.parametrize(("width", "name"), wide_packets.CASES)
def test_wide_packets_are_read_and_written_as_ever(width: int, name: str) -> None:
    """`test_wire_decoder` compares the numbers of calibrated codecs, which have no hash."""
    data = wide_packets.packet_file(width, name).read_bytes()
    header = wide_packets.header(width, name)
    assert said(decode_header(data)[0]) == said(header)
    found = wide_packets.arrived(width, name, data)
    hashes = wide_packets.numbers(width)
    assert name not in hashes or hashes[name] == wide_packets.hash_of(found)
    assert (name in hashes) != needs_calibration(name)
    if "+" not in name and "kvtc" not in name:
        assert encode(wide_packets.sent(width), header) == data


# Bytes that nobody wrote


def test_another_pair_or_geometry_is_refused_by_name() -> None:
    data = make_packet()
    with pytest.raises(PacketError, match="for pair 7468652070616972, this one is 00000000000000"):
        decode(data, GEOMETRY, bytes(8))
    for geometry in (Geometry(4, 2, 5), Geometry(3, 5, 2), Geometry(3, 2, 6)):
        refused(data, r"3 layers of 2 KV heads of 5 channels, the sharer is \d", geometry)


@pytest.mark.parametrize("name", (*PER_TENSOR, *EXAMPLES))
def test_a_packet_cut_anywhere_is_refused(name: str) -> None:
    data = make_packet(replace(HEADER, codec=codec(name)))
    for length in range(len(data)):
        refused(data[:length], ".")
    for more in (b"\0", b"\xff", data):
        refused(data + more, ".")
        refused(with_checksum(data[:-4] + more), "bytes long, its header says|block")
    for less in range(FIXED_BYTES + 1, len(data) - 4):
        refused(
            with_checksum(data[:less]),
            "bytes long, its header says|its header|too|block|does not fit",
        )


@pytest.mark.parametrize("name", NAMES)
def test_any_altered_byte_is_noticed(name: str) -> None:
    data = make_packet(replace(HEADER, codec=codec(name)))
    generator = random.Random(0)
    for place in range(len(data)):
        for change in (*(1 << bit for bit in range(8)), 255, generator.randrange(1, 256)):
            altered = bytearray(data)
            altered[place] ^= change
            refused(bytes(altered), ".")


def body(*varints: int, masks: bytes = b"\x05\x02", payload: bytes = b"") -> bytes:
    """A packet of the tests' pair with any numbers in its header."""
    out = bytearray(make_packet()[:FIXED_BYTES] + masks)
    for value in varints:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return with_checksum(bytes(out) + payload)


def altered_number(number: int) -> bytes:
    """The tests' packet with another codec number."""
    return with_checksum(b"LWKV\x01" + bytes([number]) + make_packet()[6:-4])


def told() -> bytes:
    """The tests' packet, of a codec that has no part in version 3, in version 3."""
    start = len(encode_header(HEADER))
    header = encode_header(with_layout(text_tokens=9))
    return with_checksum(b"LWKV\x03" + header[5:]) + make_packet()[start:-4]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes are too few"),
        (b"LWKV", "4 bytes are too few"),
        (b"LWKW" + bytes(30), "do not start like a packet"),
        (b"LWKV\x04" + bytes(30), "packet version 4 is unknown, this reads version 1 to 3"),
        (altered_number(255), "codec number 255 is unknown"),
        (altered_number(0), "codec number 0 is unknown"),
        (altered_number(70), "planes8 does not go in packets of version 1"),
        (told(), "int4 does not go in packets of version 3"),
        (with_checksum(b"LWKV\x01\x01" + bytes(14)), "no layers, heads or channels"),
        (body(0, 1, 0, 3, masks=b"\x0d\x02"), "names a layer past the last of 3"),
        (body(0, 1, 0, 3, masks=b"\x05\x82"), "names a layer past the last of 3"),
        (body(0, 0), "ends within its header"),
        (body(0, 0, 0), "holds no tokens"),
        # Tokens that differ by layer: sections, then the runs of layers 0, 1 and 2.
        (body(0, 0, 1, 2, 4, 0, 0, 0), "no layer sends any token"),
        (body(0, 0, 1, 2, 4, *[1, 2, 4] * 3), "for each layer the tokens that all send"),
        (body(0, 0, 1, 2, 4, 1, 2, 5, 0, 0), "layer 0 sends tokens that lie in no section"),
        (body(0, 0, 1, 2, 4, 0, 1, 1, 1, 0), "layer 1 sends tokens that lie in no section"),
        (body(0, 0, 2, 2, 2, 1, 2, 1, 3, 2, 0, 0), "layer 0 sends tokens that lie in no section"),
        (body(0, 0, 1, 2, 4, 0, 0, 1, 3, 0), "a run of tokens is empty"),
        (body(0, 0, 1, 2, 4, 0, 0, 2**32 - 1, payload=bytes(9)), "ends within its header"),
        (body(0, 0, 0, 1, 2, 4), "holds no tokens"),
        (body(0, 1, 4, 0), "a run of tokens is empty"),
        (body(0, 2, 0, 1, 0, 1), "two runs of tokens touch"),
        (body(0, 2**32 - 1, 0, 1), "ends within its header"),
        (body(0, 2**32), "too large"),
        (body(2**40), "too l"),
        (body(0, 1, 0, 2**32 - 1), "bytes long, its header says"),
        (with_checksum(make_packet()[:FIXED_BYTES] + b"\x05\x02\x80\x00\x01\x04\x03"), "shortest"),
        (with_checksum(make_packet()[:FIXED_BYTES] + b"\x05\x02" + b"\x80" * 9), "too long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_headers_that_nobody_writes_are_refused(data: bytes, words: str) -> None:
    refused(data, words)


def test_a_few_bytes_that_promise_much_allocate_nothing() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for tokens in (10**6, 2**31, 2**32 - 1):
        refused(body(0, 1, 0, tokens), "bytes long, its header says")
        # Without a layer there is no payload, whatever the tokens.
        refused(body(0, 1, 0, tokens, masks=b"\0\0"), "tokens, where at most 131072 can be")
    largest = struct.pack("<HHH", 65535, 65535, 65535)
    data = make_packet()
    refused(with_checksum(data[:14] + largest + data[20:-4]), "ends within its header")
    masks = bytes(8191) + b"\x40"
    refused(with_checksum(data[:14] + largest + masks * 2 + b"\0\1\0\1"), "its header says")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def nested(deep: int) -> bytes:
    """A packet whose lossless stage stands before `deep` others."""
    data = make_packet(replace(HEADER, codec=codec("int4+zstd")))
    start = len(encode_header(HEADER))
    return with_checksum(data[:start] + bytes([49, 50] * deep)[:deep] + data[start:-4])


@pytest.mark.parametrize("deep", [1, 2, 3000, 200_000])
def test_a_lossless_stage_does_not_stand_behind_another(deep: int) -> None:
    refused(nested(deep), "a lossless stage cannot stand behind another one")
    decode(nested(0), GEOMETRY, IDENTITY)


def test_runs_and_compressed_numbers_have_a_limit() -> None:
    """A million runs of one token would take seconds, and numbers that compress well any memory."""
    began = time.process_time()
    many = body(0, 1_000_000, *[1, 1] * 5, payload=b"\1" * 2_000_000)
    refused(many, "claims 1000000 runs of tokens, where at most 131072 can be")
    with pytest.raises(PacketError, match="claims 2000 runs of tokens, where at most 1999 can"):
        runs = tuple(range(2 * n, 2 * n + 1) for n in range(2000))
        decode(make_packet(with_layout(runs=runs)), GEOMETRY, IDENTITY, most_tokens=1999)
    whole = make_packet(replace(HEADER, codec=codec("fp16+zstd")))
    wide = whole[:14] + struct.pack("<HHH", 3, 65535, 65535) + whole[20:-4]
    refused(with_checksum(wide), "compressed numbers, where at most 134217728 can be")
    assert time.process_time() - began < 1


def test_a_packet_is_described_only_if_it_is_decoded() -> None:
    data = make_packet(replace(HEADER, codec=codec("int4+zstd")))
    assert "int4+zstd (number 49)" in describe(data)
    for wrong in (with_checksum(data[:-6]), with_checksum(data[:-4] + b"0"), nested(3000)):
        with pytest.raises(PacketError):
            describe(wrong)
    scale = bytearray(make_packet())
    scale[len(encode_header(HEADER)) : len(encode_header(HEADER)) + 4] = b"\0\0\xc0\x7f"  # NaN
    with pytest.raises(PacketError, match="scale that no finite numbers have"):
        describe(with_checksum(bytes(scale[:-4])))


def test_a_packet_of_many_parts_is_described_in_short() -> None:
    runs = tuple(range(2 * n, 2 * n + 1) for n in range(5000))
    assert "30 to 30 and 4984 more runs" in describe(make_packet(with_layout(runs=runs)))
    layers = tuple(range(60))
    names = "/".join(f"{layer}:int{(8, 4, 3, 2)[layer % 4]}" for layer in layers)
    header = Header(
        codec(f"bf16/{names}"),
        IDENTITY,
        replace(LAYOUT, geometry=Geometry(60, 1, 2), key_layers=layers, value_layers=()),
    )
    assert "1 int2 and 28 more (number 48)" in describe(make_packet(header))


def test_what_arrives_fits_the_type_that_is_asked_for() -> None:
    header = replace(HEADER, codec=codec("fp32"))
    cache = make_cache(GEOMETRY, 3).map(lambda tensor: tensor * 1e6)
    data = encode(cache, header)
    decode(data, GEOMETRY, IDENTITY, torch.bfloat16)
    with pytest.raises(PacketError, match="numbers too large for float16"):
        decode(data, GEOMETRY, IDENTITY, torch.float16)


def test_unsent_tensors_take_no_memory() -> None:
    layout = Layout(Geometry(200, 64, 4096), (), (), (range(100_000),))
    data = make_packet_of_nothing(layout)
    _, cache = decode(data, layout.geometry, IDENTITY, torch.bfloat16)
    assert tuple(cache.keys[0].shape) == (1, 64, 100_000, 4096)
    assert cache.values[199].dtype == torch.bfloat16 and cache.keys[0].stride() == (0, 0, 0, 0)


def make_packet_of_nothing(layout: Layout) -> bytes:
    return with_checksum(encode_header(Header(codec("int4"), IDENTITY, layout)))


def check_hostile(data: bytes, geometry: Geometry, identity: bytes) -> bool:
    """Decode what may be anything: PacketError, or a cache that the bytes really hold."""
    try:
        header, cache = decode(data, geometry, identity)
    except PacketError as error:
        assert type(error) is PacketError
        assert str(error)
        return False
    assert packet_bytes(header) in (len(data), None)
    assert data.startswith(encode_header(header))  # a header has one spelling only
    for kind, layer in header.layout.sent:
        tensor = (cache.keys if kind == "key" else cache.values)[layer]
        assert tensor.shape == (1, *header.layout.shape_of(layer))
        assert bool(torch.isfinite(tensor).all())
    return True


@pytest.mark.parametrize("name", NAMES)
def test_mutations_with_a_right_checksum_are_refused_or_valid(name: str) -> None:
    generator = random.Random(name)
    packet = make_packet(replace(HEADER, codec=codec(name)))[:-4]
    header_bytes = len(encode_header(replace(HEADER, codec=codec(name))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    valid, count = 0, 400 if name.startswith("planes") else 100  # few of a stream are valid
    for _ in range(count):
        data = bytearray(packet)
        for _ in range(generator.choice((1, 1, 2, 5))):
            # The variable part of the header, all of it, or anywhere.
            start, stop = generator.choice(
                ((FIXED_BYTES, header_bytes), (0, header_bytes), (header_bytes, len(packet)))
            )
            place = min(generator.randrange(start, stop), len(data) - 1)
            change = generator.randrange(5)
            if change == 0:
                data[place] = generator.randrange(256)
            elif change == 1:
                data[place] ^= 1 << generator.randrange(8)
            elif change == 2:
                data[place] = generator.choice((0, 1, 127, 128, 255))
            elif change == 3:
                data[place:place] = generator.randbytes(generator.randrange(1, 4))
            elif len(data) > 8:
                del data[place : place + generator.randrange(1, 4)]
        valid += check_hostile(with_checksum(bytes(data)), GEOMETRY, IDENTITY)
    assert 0 < valid < 0.9 * count
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.slow
def test_thousands_of_hostile_packets_of_every_codec() -> None:
    """`make fuzz` throws a million."""
    *_, (_, outcome) = fuzz(2_000, seed=1)
    assert outcome.thrown > 2_000
    assert outcome.decoded > 150
    assert len(outcome.refused) > 50


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert not check_hostile(data, GEOMETRY, IDENTITY)


@given(st.sampled_from(NAMES), st.binary(max_size=40), st.binary(max_size=120), st.booleans())
def test_any_bytes_after_a_right_beginning_are_refused_or_valid(
    name: str, rest: bytes, payload: bytes, keeps_masks: bool
) -> None:
    start = make_packet(replace(HEADER, codec=codec(name)))[: FIXED_BYTES + 2 * keeps_masks]
    check_hostile(with_checksum(start + rest + payload), GEOMETRY, IDENTITY)
