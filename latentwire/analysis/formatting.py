"""Numbers as people read them."""

import math
from collections.abc import Sequence


def human_bytes(value: float) -> str:
    """Bytes with three figures and an SI unit (1 kB = 1000 bytes): 950 B, 83.9 kB, 1.72 MB."""
    return _in_units(value, ("B", "kB", "MB", "GB"))


def human_bits_per_s(value: float) -> str:
    """A bandwidth with three figures and an SI unit: 64 bit/s, 1.5 Mbit/s, 40 Gbit/s."""
    return _in_units(value, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))


def human_ms(value: float) -> str:
    """Three digits, in seconds from 1000 ms on."""
    unit, scale = ("s", 1000) if value >= 1000 else ("ms", 1)
    return f"{float(f'{value / scale:.3g}'):g} {unit}"


def p_value(p: float) -> str:
    """A p-value with two digits, "< 1e-10" below that; "-" for NaN."""
    if math.isnan(p):
        return "-"
    return "< 1e-10" if p < 1e-10 else f"{p:.2g}"


def percent(share: float, *, signed: bool = False) -> str:
    """A share of 0 to 1 in percent with one decimal: 55.1, or +0.4 if `signed`; "-" for NaN."""
    if math.isnan(share):
        return "-"
    # Adding zero turns the -0.0 of a small negative into 0.0.
    value = round(100 * share, 1) + 0.0
    return f"{value:+.1f}" if signed and value else f"{value:.1f}"


def interval(low: float, high: float, *, signed: bool = False) -> str:
    """Two shares in brackets, as `percent` has them."""
    return f"[{percent(low, signed=signed)}, {percent(high, signed=signed)}]"


def _in_units(value: float, units: Sequence[str]) -> str:
    """In the first of `units`, each 1000 times the one before, that leaves at most three digits
    before the point; else in the last."""
    *smaller, largest = units
    for unit in smaller:
        if _rounded(value) < 1000:
            return f"{_rounded(value):g} {unit}"
        value /= 1000
    return f"{_rounded(value):g} {largest}"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
