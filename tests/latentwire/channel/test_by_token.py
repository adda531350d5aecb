"""Codecs by token: each class is coded as if it were all that is sent."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import wire_decoder
from hypothesis import given
from hypothesis import strategies as st
from small_link import GEOMETRY, LINK, make_cache

from c2c.cache import Geometry, KVCache
from latentwire.channel import registry
from latentwire.channel.by_token import ByToken
from latentwire.channel.codec import NumbersRefused
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.header_fields import PacketError, Reader
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import decode, encode_header
from latentwire.channel.positions import Positions
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

NAME = "tokens:int8:bf16:kivi3:int2"
NAMES = NAME.split(":")[1:]
CHANNEL = Channel(NAME)
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2), (range(3, 8),))


def of_classes(classes: list[int]) -> Positions:
    """Every other token, in these classes."""
    tokens = range(0, 2 * len(classes), 2)
    return replace(Positions.of(tokens), classes=bytes(classes))


@given(st.lists(st.lists(st.integers(0, 3), max_size=7), min_size=1, max_size=4), st.booleans())
def test_a_class_is_coded_as_if_it_were_all(rows: list[list[int]], plain: bool) -> None:
    """Batches, packets and the wire's own reader give the numbers of each class' codec."""
    cache = make_cache(14, batch=len(rows))
    chosen = [of_classes([0] * len(row) if plain else row) for row in rows]
    if plain:
        chosen = [replace(each, classes=b"") for each in chosen]
    arrived = LINK.simulate(CHANNEL, cache, chosen)
    for row, positions in enumerate(chosen):
        own = cache.rows(row, row + 1)
        packet = LINK.send(CHANNEL, own, positions)
        assert len(packet) == arrived.wire_bytes[row]
        assert LINK.packet_lengths(CHANNEL, own, [positions]) == [len(packet)]
        if not packet:
            continue
        layout, received = LINK.receive(packet, 15, torch.float32, torch.device("cpu"))
        read = wire_decoder.read(packet)
        of_tokens = positions.classes or bytes(positions.count)
        for kind, layer in layout.sent:
            ours = tensor_of(received, kind, layer)[0]
            assert torch.equal(ours, torch.from_numpy(read.tensors[kind, layer]))
            batched = tensor_of(arrived.cache, kind, layer)[row, :, : positions.count]
            assert torch.equal(ours, batched)
        for place, name in enumerate(NAMES):
            at = [n for n, each in enumerate(of_tokens) if each == place]
            if at:
                alone = Positions.of([2 * n for n in at])
                expected = LINK.receive(
                    LINK.send(Channel(name), own, alone), 15, torch.float32, torch.device("cpu")
                )[1]
                for site in layout.sent:
                    assert torch.equal(
                        tensor_of(received, *site)[:, :, at], tensor_of(expected, *site)
                    )


@pytest.mark.parametrize("name", ["tokens:int8:int4:rotate2.5", "tokens:bf16:kivi4:int4"])
@pytest.mark.parametrize("keys", [(0, 1), ()])
def test_classes_are_coded_where_kernels_are_too(name: str, keys: tuple[int, ...]) -> None:
    """Widths of heads that kernels know: the bytes and numbers of each class' tokens alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classes = bytes([1, 0, 2, 2, 1, 0, 1])
    layout = Layout(Geometry(2, 2, 64), keys, (1,), (range(3, 10),), classes=classes)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 2, 7, 64, generator=generator).to(device, torch.float16)
    cache, made = KVCache(tuple(x[:2]), tuple(x[2:])), registry.codec(name)
    assert isinstance(made, ByToken)
    data = made.payloads(cache, layout)
    arrived = made.caches(data, layout, torch.float16)
    direct, (length, _) = made.round_trip(cache, [layout, layout])
    assert data.shape[1] == length == made.payload_bytes(layout)
    start = 0
    for place in sorted(range(3), key=lambda place: made.classes[place].number):
        at = [token for token, own in enumerate(classes) if own == place]
        own = replace(layout, runs=(range(len(at)),), classes=b"")
        alone = made.classes[place]
        rows = alone.payloads(cache.map(lambda x, at=at: x[:, :, at]), own)
        assert torch.equal(data[:, start : start + rows.shape[1]], rows)
        start += rows.shape[1]
        expected = alone.caches(rows, own, torch.float16)
        for site in layout.sent:
            assert torch.equal(tensor_of(arrived, *site)[:, :, at], tensor_of(expected, *site))
            assert torch.equal(tensor_of(direct, *site)[:, :, at], tensor_of(expected, *site))
    cache.values[1][1, 0, 6, 5] = torch.inf
    marks = [torch.zeros(1, dtype=torch.int32, device=device) for _ in range(2)]
    made.write(cache, layout, data, marks[0])
    made.read(data.fill_(255), layout, torch.float16, marks[1])
    assert all(map(bool, marks))
    with pytest.raises(NumbersRefused, match="NaN or infinite"):
        made.payloads(cache, layout)
    good = cache.rows(0, 1)
    assert torch.equal(made.written_alone(good, layout), made.payloads(good, layout).cpu())


def test_one_class_costs_two_bytes_more_than_its_codec() -> None:
    positions, cache = Positions.of(range(2, 9)), make_cache(9)
    packets = [LINK.send(Channel(name), cache, positions) for name in ("tokens:int8", "int8")]
    assert len(packets[0]) == len(packets[1]) + 2
    first, second = (LINK.receive(p, 10, torch.float32, torch.device("cpu"))[1] for p in packets)
    for site in LAYOUT.sites:
        assert torch.equal(tensor_of(first, *site), tensor_of(second, *site))


def test_a_packet_is_written_again_as_it_was_and_in_one_order() -> None:
    """Whatever the name's order: classes stand by number, and those without a token not at all."""
    cache, positions = make_cache(14), of_classes([1, 3, 3, 1])
    packet = LINK.send(CHANNEL, cache, positions)
    header, received = decode(packet, GEOMETRY, LINK.identity)
    assert header.codec.name == "tokens:bf16:int2"
    assert packet.startswith(encode_header(header))
    other = replace(positions, classes=bytes([1, 0, 0, 1]))
    assert LINK.send(Channel("tokens:int2:bf16"), cache, other) == packet
    assert isinstance(received, KVCache)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ([0], "no codecs, or too many"),
        ([17, *range(1, 18)], "no codecs, or too many"),
        ([2, 8, 48], "no codecs, or too many"),
        ([2, 9, 8, 0], "do not ascend"),
        ([2, 8, 8, 0], "do not ascend"),
        ([2, 8, 9, 0], "not those of its tokens"),  # none of the second
        ([3, 8, 9, 10, 0b11100100, 0], "not those of its tokens"),  # one of a fourth
        ([2, 8, 9, 0b00100001], "the bits after the last code are not zero"),
        ([2, 8, 9], "ends within its header"),
    ],
)
def test_hostile_parameters_are_refused(parameters: list[int], reason: str) -> None:
    read = partial(registry.read_codec, layout=LAYOUT, calibration=None)
    with pytest.raises(PacketError, match=reason):
        read(72, Reader(bytes(parameters), 0))


def test_tokens_that_differ_by_layer_have_no_classes() -> None:
    layers = Positions.of_layers([[0], [1], [2]], range(4))
    with pytest.raises(PacketError, match="cannot be others in other layers"):
        LINK.send(CHANNEL, make_cache(5), layers)
    wrong = replace(Positions.of(range(3)), classes=bytes([0, 9, 0]))
    with pytest.raises(PacketError, match="are not those of 3 tokens"):
        LINK.send(CHANNEL, make_cache(5), wrong)
    assert isinstance(LINK, Endpoint)


@pytest.mark.parametrize(
    "name", ["tokens:", "tokens:int8:int8", "tokens:kvtc1", "tokens:int8+zstd"]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(LatentWireError):
        registry.codec(name)
