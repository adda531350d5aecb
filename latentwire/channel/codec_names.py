"""What the name of a codec says, without the codec, which brings torch: a plan needs no more."""

import re

from latentwire.spec.axes import MIXED

BY_TOKEN = "tokens:"  # what the name of a codec by token begins with
_BITS = re.compile(r"[0-9]+(\.[0-9]+)?")
_CALIBRATED = re.compile(r"(turbo|kvtc|klt)[0-9.]+|planes[0-9.]+_klt")


def needs_calibration(name: str) -> bool:
    """Whether the codec called `name` needs a calibration: those of four families do."""
    return _CALIBRATED.fullmatch(name.partition("+")[0]) is not None


def is_mixed(name: str) -> bool:
    """Whether layers or tokens differ in their codec, as far as any name says."""
    return "/" in name or ":" in name


def bits_label(name: str) -> str:
    """Bits of one code, for people and for the parameter `kv_bits`: the first number in the name of
    every codec. MIXED where layers or tokens differ."""
    if is_mixed(name):
        return MIXED
    found = _BITS.search(name)
    assert found, f"{name}: a codec's name says its bits"
    return found[0]


def family(name: str) -> str:
    """What codecs of other bits have in common: "klt" of klt1 and klt2, "int_token" of int4_token.
    Of one whose layers or tokens differ, its whole name."""
    return name if is_mixed(name) else _BITS.sub("", name, count=1)
