"""Lengths of packets that are counted together are those of the packets that are written."""

from dataclasses import replace

import numpy as np
import pytest
from any_layouts import differing
from golden_packets import ALL, golden_file, golden_header
from hypothesis import given
from hypothesis import strategies as st

from c2c.cache import Geometry
from c2c.sections import runs_of
from latentwire.channel.header_fields import LARGEST_NUMBER, varint, varint_bytes
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, around_bytes, packet_bytes
from latentwire.channel.packet_lengths import PacketLayouts
from latentwire.channel.registry import codec

EDGES = [edge + off for bits in (7, 14, 21, 28) for edge in (1 << bits,) for off in (-1, 0)]
NUMBERS = st.sampled_from([0, *EDGES, LARGEST_NUMBER]) | st.integers(0, LARGEST_NUMBER)
# Runs of few and of many, near the text's start and where a number takes three bytes.
TOKENS = st.sets(st.integers(0, 40)) | st.sets(st.sampled_from(range(0, 600, 2)), min_size=150)
PLACES = st.sampled_from((0, 100, 16_300))


@given(st.lists(NUMBERS))
def test_varints_are_as_long_as_is_counted(numbers: list[int]) -> None:
    assert varint_bytes(np.array(numbers)).tolist() == [len(varint(n)) for n in numbers]


@st.composite
def batches(draw: st.DrawFn) -> list[Header | None]:
    """Headers of one codec and one pair, some of other tokens in each layer, some of none."""
    layers = draw(st.integers(1, 10))
    named = st.sets(st.integers(0, layers - 1)).map(lambda chosen: tuple(sorted(chosen)))
    whole = Layout(Geometry(layers, 2, 4), draw(named), draw(named), (range(1),))
    name = draw(st.sampled_from(("bf16", "int4", "int4/0:int8", "planes4", "int8+zstd")))
    found: list[Header | None] = []
    for tokens in draw(st.lists(TOKENS, max_size=5)):
        place = draw(PLACES)
        runs = runs_of(token + place for token in tokens)
        if not runs:
            found.append(None)
            continue
        ends = runs[-1].stop
        layout = replace(
            whole,
            runs=runs,
            first_position=draw(st.sampled_from((0, 127, 128))),
            text_tokens=draw(st.sampled_from((0, ends + 1, ends + 2**21))),
        )
        found.append(Header(codec(name), bytes(8), draw(differing(layout))))
    return found


def counted(headers: list[Header | None]) -> tuple[list[int], list[int | None]]:
    """Bytes around each payload, and of each packet, as they are counted."""
    layouts = PacketLayouts([header.layout if header else None for header in headers])
    made = next((header.codec for header in headers if header), codec("int8"))
    return layouts.around_bytes(made), layouts.packet_bytes(made)


@given(batches())
def test_what_is_counted_is_what_is_written(headers: list[Header | None]) -> None:
    around = [around_bytes(header) if header else 0 for header in headers]
    whole = [packet_bytes(header) if header else 0 for header in headers]
    assert counted(headers) == (around, whole)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40).map(bytes), max_size=4))
def test_what_is_told_of_tokens_counts_too(classes: list[bytes]) -> None:
    whole = Layout(Geometry(3, 2, 4), (0, 2), (1,), (range(1),))
    headers: list[Header | None] = [
        Header(codec("tokens:int8:int4:int2"), bytes(8), replace(whole, runs=runs, classes=each))
        for each in classes
        for runs in ((range(5, 5 + len(each)),),)
    ]
    assert counted(headers)[1] == [packet_bytes(header) for header in headers if header]


@pytest.mark.parametrize("name", ALL)
def test_golden_packets_are_as_long_as_is_counted(name: str) -> None:
    header, length = golden_header(name), len(golden_file(name).read_bytes())
    around, (whole, nothing) = counted([header, None])
    assert around == [around_bytes(header), 0]
    assert whole in (length, None) and nothing == 0


def test_layers_that_no_mask_names_are_not_told() -> None:
    runs = (range(2),), (range(1),), (range(1), range(3, 4))
    layout = Layout(Geometry(3, 2, 4), (2,), (0,), (range(5),), by_layer=runs)
    header = Header(codec("int8"), bytes(8), layout)
    assert counted([header])[1] == [packet_bytes(header)]
