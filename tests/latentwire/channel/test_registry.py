from typing import get_type_hints

import pytest

from latentwire.channel.codec import Codec
from latentwire.channel.registry import BY_BITS, CODECS, codec
from latentwire.errors import LatentWireError

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
}


def test_names_and_numbers_are_given_once_and_never_change() -> None:
    assert {name: CODECS[name].number for name in NUMBERS} == NUMBERS
    for name, one in CODECS.items():
        assert one.name == name
        assert 0 < one.number < 256
        assert codec(name).number == one.number


def test_kv_bits_name_codecs_of_as_many_bits() -> None:
    assert {CODECS[name].bits for name in BY_BITS.values()} == set(BY_BITS)
    assert all(CODECS[name].bits == bits for bits, name in BY_BITS.items())


def test_an_unknown_codec_is_refused_with_those_there_are() -> None:
    with pytest.raises(LatentWireError, match="codec 'int5' is unknown; there are bf16, fp16"):
        codec("int5")


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_has_what_a_codec_has(name: str) -> None:
    for attribute, kind in get_type_hints(Codec).items():
        assert isinstance(getattr(CODECS[name], attribute), kind)
    for method in ("encode", "decode", "payload_bytes", "round_trip"):
        assert callable(getattr(CODECS[name], method))
