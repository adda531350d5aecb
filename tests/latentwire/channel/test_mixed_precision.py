"""Schedules: how they are written, and that each tensor goes through the codec it names."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2c.cache import Geometry, KVCache
from latentwire.channel.header_fields import PacketError, Reader
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.mixed_precision import Schedule, read
from latentwire.channel.packet import Header, decode, decode_header, encode
from latentwire.channel.registry import PER_TENSOR, codec
from latentwire.errors import LatentWireError

LAYOUT = Layout(Geometry(6, 2, 4), (0, 2, 3, 5), (1, 4, 5), (range(3),))
BY_NUMBER = {one.number: one for one in PER_TENSOR.values()}


def chosen(name: str) -> list[str]:
    """The codec of each tensor sent."""
    schedule = codec(name)
    assert isinstance(schedule, Schedule)
    return [schedule.choose(site, 6).name for site in LAYOUT.sent]


def test_exceptions_hold_where_they_say_and_the_last_one_wins() -> None:
    assert chosen("int4/last2:bf16") == ["int4", "int4", "int4", "bf16", "int4", "bf16", "bf16"]
    assert chosen("int4/first1:nf4")[0] == "nf4"
    assert chosen("int2/keys:int8") == ["int8"] * 4 + ["int2"] * 3
    assert chosen("int2/values:int8/5:bf16") == ["int2"] * 3 + ["bf16", "int8", "int8", "bf16"]
    assert chosen("int8/2-4:kivi2/3:fp16")[:4] == ["int8", "kivi2", "fp16", "int8"]
    assert chosen("int8/last100:int2") == ["int2"] * 7
    assert chosen("int2/keys2-4:int8/values5:int4") == [
        *("int2", "int8", "int8", "int2"),
        *("int2", "int2", "int4"),
    ]
    assert chosen("int2/valueslast2:int3")[4:] == ["int2", "int3", "int3"]


def test_one_schedule_serves_sharers_of_other_depths() -> None:
    schedule = codec("int4/last2:bf16")
    assert isinstance(schedule, Schedule)
    deeper = Layout(Geometry(8, 2, 4), LAYOUT.key_layers, LAYOUT.value_layers, LAYOUT.runs)
    few, all_of_it = (PER_TENSOR[name].payload_bytes(deeper) for name in ("int4", "bf16"))
    assert few < schedule.payload_bytes(LAYOUT) < all_of_it
    assert schedule.payload_bytes(deeper) == few  # of layers 6 and 7 nothing is sent


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("int4/", "is no exception of a schedule"),
        ("int4/:int8", "is no exception of a schedule"),
        ("int4/key3:int8", "is no exception of a schedule"),
        ("int4/keys4-2:bf16", "ends before it starts"),
        ("int4/last2", "is no exception of a schedule"),
        ("int4/last0:bf16", "is no exception of a schedule"),
        ("int4/last02:bf16", "is no exception of a schedule"),
        ("int4/middle:bf16", "is no exception of a schedule"),
        ("int4/4-2:bf16", "ends before it starts"),
        ("int4/last2:int9", "'int9' cannot be part of another"),
        ("int4/last2:turbo4", "'turbo4' cannot be part of another"),
        ("int9/last2:bf16", "'int9' cannot be part of another"),
        ("int4/last2:bf16+gzip", "lossless stage 'gzip' is unknown"),
    ],
)
def test_what_is_no_schedule_is_refused(name: str, words: str) -> None:
    with pytest.raises(LatentWireError, match=words):
        codec(name)


def test_every_tensor_arrives_as_from_its_own_codec() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = (
        tuple(torch.randn(1, 2, 3, 4, generator=generator) for _ in range(6)) for _ in range(2)
    )
    cache = KVCache(keys, values)
    name = "int4/last2:bf16/values:kivi3"
    header = Header(codec(name), bytes(8), LAYOUT)
    data = encode(cache, header)
    read_header, arrived = decode(data, LAYOUT.geometry, bytes(8))
    assert read_header.codec.name == "schedule of 3 int4, 1 bf16, 3 kivi3"
    for site, own in zip(LAYOUT.sent, chosen(name), strict=True):
        alone = PER_TENSOR[own].at(*site).round_trip(tensor_of(cache, *site))
        assert torch.equal(tensor_of(arrived, *site), alone)


def test_what_the_header_says_has_one_spelling() -> None:
    def parse(*content: int) -> list[int]:
        schedule = read(Reader(bytes(content), 0), LAYOUT, BY_NUMBER)
        return [schedule.choose(site, 6).number for site in LAYOUT.sent]

    assert parse(9, 4, 1, 3) == [9] * 4 + [1] * 3
    for content, words in (
        ((9, 4, 9, 3), "two stretches of a schedule have one codec"),
        ((9, 8), "does not fit the tensors sent"),
        ((9, 0, 9, 7), "does not fit the tensors sent"),
        ((9, 4), "ends within its header"),
        ((48, 7), "codec number 48 cannot be part of a schedule"),
        ((40, 7), "codec number 40 cannot be part of a schedule"),
    ):
        with pytest.raises(PacketError, match=words):
            parse(*content)


@given(st.lists(st.sampled_from(sorted(BY_NUMBER)), min_size=7, max_size=7))
def test_any_choice_of_codecs_survives_the_header(numbers: list[int]) -> None:
    by_site = dict(zip(LAYOUT.sent, numbers, strict=True))
    schedule = Schedule("any", lambda site, layers: BY_NUMBER[by_site[site]])
    found = read(Reader(schedule.parameters(LAYOUT), 0), LAYOUT, BY_NUMBER)
    assert [found.choose(site, 6).number for site in LAYOUT.sent] == numbers


def test_a_schedule_of_nothing_sent_is_a_packet() -> None:
    empty = replace(LAYOUT, key_layers=(), value_layers=())
    header = Header(codec("int4/last2:bf16"), bytes(8), empty)
    cache = KVCache((torch.zeros(1, 2, 3, 4),) * 6, (torch.zeros(1, 2, 3, 4),) * 6)
    data = encode(cache, header)
    assert decode_header(data)[0].layout == empty
