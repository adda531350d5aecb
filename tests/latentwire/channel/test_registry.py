import re
from pathlib import Path

import golden_packets
import pytest

from c2c.cache import Geometry
from latentwire.channel import codec_names
from latentwire.channel.codec_names import bits_label, needs_calibration
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, packet_bytes
from latentwire.channel.registry import CALIBRATED, CODECS, EXAMPLES, NAMES, codec
from latentwire.errors import LatentWireError
from latentwire.parameters import BY_BITS

NUMBER_AT = 5  # of a packet: behind the four letters and the version


def test_names_and_numbers_are_given_once_and_never_change() -> None:
    """What version 1 of the packet has fixed for good stands in the golden packets."""
    for name in golden_packets.ALL:
        assert golden_packets.golden_file(name).read_bytes()[NUMBER_AT] == codec(name).number
    alone = [name for name in NAMES if not name.startswith("planes")]  # those are two streams
    assert len({codec(name).number for name in NAMES}) == len(alone) + 2
    for name in NAMES:
        assert codec(name).name == name
        assert 0 < codec(name).number < 256


def test_the_list_of_names_is_the_registrys() -> None:
    assert codec_names.NAMES == NAMES


def test_names_alone_say_what_plans_need() -> None:
    for name in (*NAMES, *EXAMPLES):
        bits = codec(name).bits
        assert bits_label(name) == ("mixed" if bits is None else f"{bits:g}"), name
        assert needs_calibration(name) == (name.partition("+")[0] in CALIBRATED), name


def test_kv_bits_name_codecs_of_as_many_bits() -> None:
    assert {CODECS[name].bits for name in BY_BITS.values()} == set(BY_BITS)
    assert all(CODECS[name].bits == bits for bits, name in BY_BITS.items())


@pytest.mark.parametrize("name", ["int9", "int4/last2:int9"])
def test_an_unknown_codec_is_refused_with_the_near_ones_and_what_lists_all(name: str) -> None:
    with pytest.raises(LatentWireError, match=r"all [0-9]+: latentwire list codecs") as refused:
        codec(name)
    assert "(did you mean int" in str(refused.value)
    assert sum(f" {known}" in str(refused.value) for known in NAMES) < 8


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
            numbers = list(map(int, re.findall(r"\d+", cells[0])))
            if bits:
                assert [codec(n).number for n in (names[0], names[-1])] == [numbers[0], numbers[-1]]
            stated |= dict(zip(names, map(float, bits), strict=False))
    assert set(stated) == set(NAMES)
    for name, bits in stated.items():
        header = Header(codec(name), bytes(8), layout)
        length = packet_bytes(header)
        if length is not None:
            assert 8 * length / layout.elements == pytest.approx(bits, abs=0.0051), name
