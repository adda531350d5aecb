"""Which codecs there are, and what a name says, without the codecs, which bring torch: a list, a
refusal and a plan need no more. A test holds the list equal to the registry."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from latentwire.spec.axes import MIXED
from latentwire.suggestion import known_names

INTEGER_BITS = (8, 4, 3, 2)
ROTATED_BITS = (1, 1.5, 2, 2.5, 3, 3.5, 4)
PLANE_BITS = (1, 1.5, 2, 3, 4, 8)  # the last: whole streams, as which packets are read
KLT_PLANE_BITS = (0.5, 1, 1.5, 2, 3, 8)
RATES = (0.5, 1.0, 2.0, 3.0)  # bits a number that transform coding is fitted for
LAYER_RATES = (1.0, 1.5, 2.0, 2.25, 3.0)  # the same for transforms of one layer


@dataclass(frozen=True)
class Family:
    """Codecs that differ in their bits alone."""

    names: tuple[str, ...]
    help: str


def _named(form: str, bits: Iterable[float]) -> tuple[str, ...]:
    return tuple(form.format(f"{each:g}") for each in bits)


FAMILIES = (
    Family(("bf16", "fp16", "fp32"), "the cache as it is"),
    Family(_named("int{}", INTEGER_BITS), "symmetric, one scale per KV head: published"),
    Family(_named("int{}_layer", INTEGER_BITS), "symmetric, one scale a layer"),
    Family(_named("int{}_token", INTEGER_BITS), "symmetric, one scale a token"),
    Family(_named("int{}_group", INTEGER_BITS), "symmetric, one scale a token and 32 channels"),
    Family(("nf4", "fp8_e4m3", "fp8_e5m2", "mxfp4"), "floating point of 4 and 8 bits"),
    Family(_named("rotate{}", ROTATED_BITS), "random rotation, then Lloyd-Max codebooks"),
    Family(_named("kivi{}", INTEGER_BITS), "asymmetric, keys by channel and values by token"),
    Family(_named("planes{}", PLANE_BITS), "bit planes: any beginning of the packet decodes"),
    Family(_named("turbo{}", ROTATED_BITS), "rotation of keys without their mean"),
    Family(_named("kvtc{}", RATES), "transform coding of whole tokens"),
    Family(_named("planes{}_klt", KLT_PLANE_BITS), "bit planes of what klt codes"),
    Family(_named("klt{}", LAYER_RATES), "transform coding of each layer by itself"),
)
NAMES = tuple(name for family in FAMILIES for name in family.names)
LISTING = "latentwire list codecs"
COMPOSED = (
    "exceptions by layer are written int4/last2:bf16, those by token tokens:int8:int4, a lossless"
    " stage bf16+zstd"
)

BY_TOKEN = "tokens:"  # what the name of a codec by token begins with
_BITS = re.compile(r"[0-9]+(\.[0-9]+)?")
_CALIBRATED = re.compile(r"(turbo|kvtc|klt)[0-9.]+|planes[0-9.]+_klt")


def needs_calibration(name: str) -> bool:
    """Whether the codec called `name` needs a calibration: those of four families do."""
    return _CALIBRATED.fullmatch(name.partition("+")[0]) is not None


def is_composed(name: str) -> bool:
    """Whether a name is put together from others: a schedule, or one with a lossless stage."""
    return any(sign in name for sign in "/:+")


def unknown_codec(name: str) -> str:
    """The sentence that refuses a codec that there is not."""
    return f"codec {name!r} is unknown{known_names(name, NAMES, LISTING)}; {COMPOSED}"


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
