import re
from pathlib import Path

import pytest

from c2c.cache import Geometry
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, packet_bytes
from latentwire.channel.registry import CODECS, NAMES, codec
from latentwire.errors import LatentWireError
from latentwire.parameters import BY_BITS

# What version 1 of the packet has fixed for good.
NUMBERS = {
    "bf16": 1,
    "fp16": 2,
    "fp32": 3,
    "int8": 8,
    "int4": 9,
    "int3": 10,
    "int2": 11,
    "int8_layer": 12,
    "int4_layer": 13,
    "int3_layer": 14,
    "int2_layer": 15,
    "int8_token": 16,
    "int4_token": 17,
    "int3_token": 18,
    "int2_token": 19,
    "int8_group": 20,
    "int4_group": 21,
    "int3_group": 22,
    "int2_group": 23,
    "nf4": 24,
    "fp8_e4m3": 25,
    "fp8_e5m2": 26,
    "mxfp4": 27,
    "kivi8": 28,
    "kivi4": 29,
    "kivi3": 30,
    "kivi2": 31,
    "rotate1": 32,
    "rotate1.5": 33,
    "rotate2": 34,
    "rotate2.5": 35,
    "rotate3": 36,
    "rotate3.5": 37,
    "rotate4": 38,
    "turbo1": 40,
    "turbo1.5": 41,
    "turbo2": 42,
    "turbo2.5": 43,
    "turbo3": 44,
    "turbo3.5": 45,
    "turbo4": 46,
    "int4/last2:bf16": 48,
    "bf16+zstd": 49,
    "int4+lzma": 50,
    "kvtc0.5": 60,
    "kvtc1": 61,
    "kvtc2": 62,
    "kvtc3": 63,
}


def test_names_and_numbers_are_given_once_and_never_change() -> None:
    assert {name: codec(name).number for name in NUMBERS} == NUMBERS
    assert set(NAMES) <= set(NUMBERS), "a new codec's number is to be fixed here"
    assert len({codec(name).number for name in NAMES}) == len(NAMES)
    for name in NAMES:
        assert codec(name).name == name
        assert 0 < codec(name).number < 256


def test_kv_bits_name_codecs_of_as_many_bits() -> None:
    assert {CODECS[name].bits for name in BY_BITS.values()} == set(BY_BITS)
    assert all(CODECS[name].bits == bits for bits, name in BY_BITS.items())


def test_an_unknown_codec_is_refused_with_those_there_are() -> None:
    with pytest.raises(LatentWireError, match="codec 'int5' is unknown; there are bf16, fp16"):
        codec("int5")


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_has_what_a_codec_has(name: str) -> None:
    made = CODECS[name]
    assert (type(made.name), type(made.number)) == (str, int)
    assert isinstance(made.bits, int | float)
    for method in ("encode", "decode", "payload_bytes", "round_trip"):
        assert callable(getattr(CODECS[name], method))


def test_the_documents_table_has_every_codec_with_its_bits_all_in() -> None:
    """Of the 6,144 numbers a token of Qwen2.5-0.5B, at 118 tokens."""
    layers = tuple(range(24))
    layout = Layout(Geometry(24, 2, 64), layers, layers, (range(118),))
    stated: dict[str, float] = {}
    for line in (Path(__file__).parents[3] / "docs" / "WIRE.md").read_text().splitlines():
        cells = line.split(" | ")
        if len(cells) == 4 and line[2].isdigit():
            names, bits = re.findall("`([^`]+)`", cells[1]), re.findall(r"\d+\.?\d*", cells[3])
            assert len(names) == len(bits) or not bits, line
            stated |= dict(zip(names, map(float, bits), strict=False))
    assert set(stated) == set(NAMES)
    for name, bits in stated.items():
        header = Header(codec(name), bytes(8), layout)
        length = packet_bytes(header)
        if length is not None:
            assert 8 * length / layout.elements == pytest.approx(bits, abs=0.0051), name
