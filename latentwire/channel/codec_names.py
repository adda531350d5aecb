"""What the name of a codec says, without the codec, which brings torch: a plan needs no more."""

import re

from latentwire.spec.axes import MIXED

_CALIBRATED = re.compile(r"(turbo|kvtc|klt)[0-9.]+|planes[0-9.]+_klt")


def needs_calibration(name: str) -> bool:
    """Whether the codec called `name` needs a calibration: those of four families do."""
    return _CALIBRATED.fullmatch(name.partition("+")[0]) is not None


def bits_label(name: str) -> str:
    """Bits of one code, for people and for the parameter `kv_bits`: the first number in the name of
    every codec. MIXED where layers differ."""
    if "/" in name:
        return MIXED
    found = re.search(r"[0-9]+(\.[0-9]+)?", name)
    assert found, f"{name}: a codec's name says its bits"
    return found[0]
