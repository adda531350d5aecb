"""Bit planes, best first: any beginning of a packet is one, and a longer one is a better one."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from any_layouts import differing
from calibrations import make_calibration
from golden_packets import IDENTITY as GOLDEN_IDENTITY
from golden_packets import golden_calibration, golden_geometry, read_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from c2c.cache import Geometry, KVCache
from latentwire.channel.codec import CodecError
from latentwire.channel.layout import Layout, example, tensor_of
from latentwire.channel.nested_quantizer import quantize, values
from latentwire.channel.packet import Header, PacketError, around_bytes, cut, decode, encode
from latentwire.channel.pieces import joined_bytes, stream_within
from latentwire.channel.registry import EMBEDDED, NAMES, codec
from latentwire.errors import LatentWireError

GEOMETRY = Geometry(layers=4, kv_heads=2, head_dim=8)
IDENTITY = b"the pair"
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2, 3), (range(3, 15), range(20, 27)))
CALIBRATION = make_calibration(GEOMETRY, LAYOUT.key_layers, LAYOUT.value_layers)
ALL = [name for name in NAMES if name.startswith("planes")]
WHOLE = Header(codec("planes8"), IDENTITY, LAYOUT)
RANDOM, CONSTANT, HEAVY = "random", "constant parts", "heavy tails"


def make_cache(kind: str, layout: Layout = LAYOUT, seed: int = 0, batch: int = 1) -> KVCache:
    """`constant parts`: channels of unlike size, most with a constant hundreds of times what
    varies, as keys of Qwen2.5 have."""
    generator = torch.Generator().manual_seed(seed)
    geometry = layout.geometry

    def tensor(layer: int) -> Tensor:
        shape = (batch, geometry.kv_heads, max(1, layout.tokens_of(layer)), geometry.head_dim)
        x = torch.randn(shape, generator=generator)
        if kind == HEAVY:
            x = x**5
        if kind == CONSTANT:
            own = torch.randn(2, *shape[1::2], generator=generator)
            x = (x + 300 * own[0].round()[:, None]) * own[1].exp()[:, None]
        return x

    layers = range(geometry.layers)
    return KVCache(tuple(map(tensor, layers)), tuple(map(tensor, layers)))


def arrived(data: bytes, layout: Layout = LAYOUT) -> KVCache:
    return decode(data, layout.geometry, IDENTITY, calibration=CALIBRATION)[1]


def lost(sent: KVCache, got: KVCache, layout: Layout = LAYOUT) -> float:
    """What the codec measures: the squared error, each tensor's as a part of what it varies."""
    errors = 0.0
    for site in layout.sent:
        x, y = tensor_of(sent, *site), tensor_of(got, *site)
        middle = (x.amax(2, keepdim=True) + x.amin(2, keepdim=True)) / 2
        errors += float((x - y).square().sum() / (x - middle).square().sum())
    return errors


def same(got: KVCache, other: KVCache, layout: Layout = LAYOUT) -> bool:
    return all(
        torch.equal(tensor_of(got, kind, n), tensor_of(other, kind, n)[:, :, : layout.tokens_of(n)])
        for kind, n in layout.sent
    )


@pytest.mark.parametrize("kind", [RANDOM, CONSTANT, HEAVY])
def test_every_beginning_is_a_packet_and_a_longer_one_is_better(kind: str) -> None:
    cache = make_cache(kind)
    data = encode(cache, WHOLE)
    least = around_bytes(WHOLE) + WHOLE.codec.least_bytes(LAYOUT)
    errors = []
    for length in (
        *range(0, least, 7),
        *range(least, least + 30),
        *range(least + 30, len(data), 5),
    ):
        if length <= least:  # the length of a whole stream takes two bytes
            with pytest.raises(PacketError):
                arrived(data[:length])
            continue
        errors.append(lost(cache, arrived(data[:length])))
    errors.append(lost(cache, arrived(data)))
    assert errors[0] > 3 and errors[-1] < 1e-3
    assert all(late <= early + 1e-6 for early, late in pairwise(errors))
    # Ended by the sender, no byte is lost.
    ended = [lost(cache, arrived(cut(data, length))) for length in range(least, len(data), 60)]
    assert all(late < early for early, late in pairwise(ended))


@given(st.data(), st.sampled_from([RANDOM, CONSTANT, HEAVY]), st.integers(0, 1000))
@settings(max_examples=30)
def test_a_round_trip_within_a_budget_is_a_packet_that_was_cut(
    data: st.DataObject, kind: str, seed: int
) -> None:
    layout = data.draw(differing(LAYOUT))
    made = codec(data.draw(st.sampled_from(ALL)), CALIBRATION)
    header = Header(made, IDENTITY, layout)
    cache = make_cache(kind, layout, seed)
    packet = encode(cache, header)
    least = around_bytes(header) + header.codec.least_bytes(layout)
    budget = data.draw(st.integers(0, len(packet) + 10))
    ended = cut(packet, budget, CALIBRATION)
    assert (ended == b"") == (budget < least)
    if ended:
        assert len(ended) <= budget and (len(ended) >= budget - 4 or ended == packet)
        got, (length,) = header.codec.round_trip(cache, [layout], [budget - around_bytes(header)])
        assert len(ended) == around_bytes(header) + length
        assert same(arrived(ended, layout), got, layout)


def test_what_else_is_in_the_batch_changes_nothing() -> None:
    layouts = [replace(LAYOUT, runs=(range(n),)) for n in (12, 5, 1)]
    whole = make_cache(CONSTANT, layouts[0], batch=3)

    def filled(x: Tensor) -> Tensor:
        rows = [x[row, :, torch.arange(12).clamp_max(n - 1)] for row, n in enumerate((12, 5, 1))]
        return torch.stack(rows)

    whole = whole.map(filled)
    for name in ALL:
        made = codec(name, CALIBRATION)
        got, lengths = made.round_trip(whole, layouts)
        for row, layout in enumerate(layouts):
            payload = made.encode(example(whole, row, layout), layout)
            assert len(payload) == lengths[row]
            assert same(made.decode(memoryview(payload), layout), got.rows(row, row + 1), layout)


def test_one_send_serves_every_rate() -> None:
    """A packet of a lower rate is the whole one, cut."""
    cache = make_cache(RANDOM)
    data = encode(cache, WHOLE)
    for name in ALL:
        if name.endswith("_klt"):
            data = encode(cache, Header(codec("planes8_klt", CALIBRATION), IDENTITY, LAYOUT))
        packet = encode(cache, Header(codec(name, CALIBRATION), IDENTITY, LAYOUT))
        assert cut(data, len(packet), CALIBRATION) == packet


def test_a_rate_is_what_its_name_says() -> None:
    for name, made in EMBEDDED.items():
        payload = made.encode(make_cache(CONSTANT), LAYOUT)
        rows, units = len(LAYOUT.sent) * 16, 5 * 20
        codes = LAYOUT.elements * made.bits / 8
        scales = len(LAYOUT.sent) * 7 + 4 * rows
        assert codes + scales <= len(payload) <= codes + scales + 2 * units + 20, name


@pytest.mark.parametrize("kind", [RANDOM, CONSTANT])
def test_it_takes_what_separate_packets_take(kind: str) -> None:
    """Of the same codes of b bits and their scales, a packet for each b; 5 % more at the most, all
    in. And it loses less than `kivi` in as many bytes."""
    layers = tuple(range(6))
    layout = Layout(Geometry(6, 2, 64), layers, layers, (range(118),))
    cache, header = make_cache(kind, layout), Header(codec("planes8"), IDENTITY, layout)
    whole = encode(cache, header)
    coded = {
        site: quantize(tensor_of(cache, *site).transpose(2, 3).flatten(1, 2), torch.tensor(True))
        for site in layout.sent
    }
    for bits in (1, 2, 3, 4, 8):
        separate = (
            around_bytes(header) + header.codec.head_bytes(layout) + layout.elements * bits // 8
        )
        tensors = {
            site: values(each, torch.full((1, 1, 1), bits).expand(1, 128, 1))
            .unflatten(1, (2, 64))
            .transpose(2, 3)
            for site, each in coded.items()
        }
        ended = cut(whole, int(1.05 * separate))
        assert len(ended) <= 1.05 * separate
        assert loss(ended, cache, layout) <= lost(cache, layout.cache(tensors), layout) + 1e-9
    for bits in (2, 3, 4):
        packet = encode(cache, Header(codec(f"kivi{bits}"), IDENTITY, layout))
        assert loss(cut(whole, len(packet)), cache, layout) < loss(packet, cache, layout)


def loss(data: bytes, cache: KVCache, layout: Layout) -> float:
    return lost(cache, arrived(data, layout), layout)


@pytest.mark.parametrize("name", ALL)
def test_beginnings_of_golden_packets_are_read_or_refused(name: str) -> None:
    data, _, _ = read_golden(name)
    geometry, own = golden_geometry(name), golden_calibration(name)
    read = 0
    for length in range(len(data) + 1):
        try:
            decode(data[:length], geometry, GOLDEN_IDENTITY, calibration=own)
        except PacketError:
            assert not read
        else:
            read += 1
    assert read > 0


def test_a_packet_is_cut_however_many_numbers_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is unpacked. A link's reader knows the prompt, and has no such limit either."""
    cache = make_cache(RANDOM)
    packet = encode(cache, Header(WHOLE.codec, IDENTITY, LAYOUT))
    ended = cut(packet, 600)
    monkeypatch.setattr("latentwire.channel.packet.MOST_UNPACKED", 3)
    assert cut(packet, 600) == ended


def test_what_cannot_be_cut_without_its_calibration_says_so() -> None:
    made = codec("planes8_klt", CALIBRATION)
    packet = encode(make_cache(RANDOM), Header(made, IDENTITY, LAYOUT))
    with pytest.raises(PacketError, match="needs the calibration that it was coded with"):
        cut(packet, 600)


def test_what_cannot_be_cut_says_so() -> None:
    cache = make_cache(RANDOM)
    with pytest.raises(LatentWireError, match="a packet of int4 cannot be cut"):
        cut(encode(cache, Header(codec("int4"), IDENTITY, LAYOUT)), 1000)
    with pytest.raises(CodecError, match=r"planes8 needs 3\d\d bytes of payload here, not 9"):
        WHOLE.codec.round_trip(cache, [LAYOUT], [9])
    with pytest.raises(LatentWireError, match="planes4 takes no lossless stage"):
        codec("planes4+zstd")


@given(st.integers(0, 5000), st.integers(0, 10_000))
def test_the_longest_stream_within_so_many_bytes(head: int, most: int) -> None:
    found = stream_within(head, most)
    if found is None:
        assert joined_bytes(head, 0) > most
    else:
        assert joined_bytes(head, found) <= most < joined_bytes(head, found + 1)


def test_a_known_transform_reaches_an_error_in_fewer_bytes() -> None:
    """What lies in few directions across channels takes few rows there."""
    layout = replace(LAYOUT, key_layers=(), value_layers=(1,), runs=(range(100),))
    tables = CALIBRATION.layer_tables["value", 1, 3.0]
    generator = torch.Generator().manual_seed(0)
    falling = 3.0 ** -torch.arange(tables.components)
    z = torch.randn(100, tables.components, generator=generator) * falling
    x = (z @ tables.basis.T + tables.mean).view(100, 2, 8).transpose(0, 1)
    cache = KVCache((x[None],) * 4, (x[None],) * 4)
    by_channel, by_direction = (
        encode(cache, Header(codec(name, CALIBRATION), IDENTITY, layout))
        for name in ("planes2", "planes1_klt")
    )
    assert len(by_direction) < 0.6 * len(by_channel)
    assert loss(by_direction, cache, layout) < loss(by_channel, cache, layout) / 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_bits() -> None:
    cache = make_cache(CONSTANT, batch=3)
    for name, made in EMBEDDED.items():
        here, lengths = made.round_trip(cache, [LAYOUT] * 3)
        there, same_lengths = made.round_trip(cache.map(lambda x: x.cuda()), [LAYOUT] * 3)
        assert lengths == same_lengths, name
        assert same(here, there.map(lambda x: x.cpu())), name
