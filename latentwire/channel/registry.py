"""All codecs by name. A codec's number is part of the packet format and is never used again.

A name is that of a codec (`int4`), of a schedule (`int4/last2:bf16`), either with a lossless stage
behind it (`bf16+zstd`), or of codecs by token (`tokens:int8:int4`).
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch

from latentwire.channel import by_token, lossless, mixed_precision
from latentwire.channel.asymmetric import Asymmetric
from latentwire.channel.cache_codec import CacheCodec
from latentwire.channel.calibration import DIGEST_BYTES, Calibration
from latentwire.channel.codec import Codec
from latentwire.channel.codec_names import (
    BY_TOKEN,
    INTEGER_BITS,
    KLT_PLANE_BITS,
    LAYER_RATES,
    LISTING,
    PLANE_BITS,
    RATES,
    ROTATED_BITS,
    needs_calibration,
    unknown_codec,
)
from latentwire.channel.fp8 import FP8
from latentwire.channel.grouped import WHOLE_HEAD, Grouped
from latentwire.channel.header_fields import PacketError, Reader
from latentwire.channel.klt import KLT
from latentwire.channel.klt_planes import KLTPlanes
from latentwire.channel.kvtc import KVTC
from latentwire.channel.layout import Layout
from latentwire.channel.lossless import FixedLength, Lossless
from latentwire.channel.mixed_precision import ScheduleError
from latentwire.channel.mxfp4 import MXFP4
from latentwire.channel.nf4 import NF4
from latentwire.channel.per_tensor import PerTensor, by_kind, uniform
from latentwire.channel.planes import Planes
from latentwire.channel.raw import Raw
from latentwire.channel.rotation import Rotation
from latentwire.channel.symmetric import Symmetric
from latentwire.channel.turbo import Turbo
from latentwire.errors import LatentWireError
from latentwire.suggestion import known_names

GROUP = 32  # channels that share a scale


def _integers(
    make: Callable[[str, int, int, Any], Codec], suffix: str, first: int, how: Any
) -> list[Codec]:
    """A family of integers, numbered from `first`: `how` says what shares a scale."""
    numbered = enumerate(INTEGER_BITS, start=first)
    return [make(f"int{bits}{suffix}", number, bits, how) for number, bits in numbered]


# Codecs of one tensor, the same for K and V and for every layer.
_UNIFORM: tuple[Codec, ...] = (
    Raw("bf16", 1, torch.bfloat16),
    Raw("fp16", 2, torch.float16),
    Raw("fp32", 3, torch.float32),
    *_integers(Symmetric, "", 8, "head"),
    *_integers(Symmetric, "_layer", 12, "layer"),
    *_integers(Grouped, "_token", 16, WHOLE_HEAD),
    *_integers(Grouped, "_group", 20, GROUP),
    NF4("nf4", 24),
    FP8("fp8_e4m3", 25, torch.float8_e4m3fn),
    FP8("fp8_e5m2", 26, torch.float8_e5m2),
    MXFP4("mxfp4", 27),
    *(Rotation(f"rotate{bits:g}", 32 + place, bits) for place, bits in enumerate(ROTATED_BITS)),
)
CODECS = {codec.name: codec for codec in _UNIFORM}


def _kivi(number: int, bits: int) -> PerTensor:
    keys = Asymmetric(f"kivi{bits} of keys", number, bits, "channel")
    values = Asymmetric(f"kivi{bits} of values", number, bits, "token")
    return by_kind(f"kivi{bits}", number, bits, keys, values)


PER_TENSOR = {
    codec.name: codec
    for codec in (
        *map(uniform, _UNIFORM),
        *(_kivi(number, bits) for number, bits in enumerate(INTEGER_BITS, start=28)),
    )
}
_BY_NUMBER = {codec.number: codec for codec in PER_TENSOR.values()}

# One stream, ended at several rates: a packet does not say at which, and all have one number.
EMBEDDED = {name: Planes(name, bits) for bits in PLANE_BITS for name in (f"planes{bits:g}",)}
WHOLE_STREAM = EMBEDDED["planes8"]

# Codecs that need a calibration: given one (or none) and the digest that packets name it by.
_Calibrated = Callable[[Calibration | None, bytes], CacheCodec]


def _klt_planes(
    name: str, bits: float, calibration: Calibration | None, digest: bytes
) -> CacheCodec:
    return KLTPlanes(name, bits, calibration=calibration, digest=digest)


CALIBRATED: dict[str, _Calibrated] = {
    **{
        f"turbo{bits:g}": partial(Turbo, f"turbo{bits:g}", 40 + place, bits)
        for place, bits in enumerate(ROTATED_BITS)
    },
    **{
        f"kvtc{bits:g}": partial(KVTC, f"kvtc{bits:g}", 60 + place, bits)
        for place, bits in enumerate(RATES)
    },
    **{
        f"planes{bits:g}_klt": partial(_klt_planes, f"planes{bits:g}_klt", bits)
        for bits in KLT_PLANE_BITS
    },
    **{
        f"klt{bits:g}": partial(KLT, f"klt{bits:g}", 64 + place, bits)
        for place, bits in enumerate(LAYER_RATES)
    },
}
_CALIBRATED_BY_NUMBER = {make(None, b"").number: make for make in CALIBRATED.values()}
_LOSSLESS_BY_NUMBER = {number: method for method, number in lossless.NUMBERS.items()}

NAMES = (*PER_TENSOR, *EMBEDDED, *CALIBRATED)
# Names that show how schedules and lossless stages are written; M1 measures them too.
EXAMPLES = (
    *("int4/last2:bf16", "int2/keys:int4", "tokens:int8:int4:int2"),
    *("bf16+zstd", "int8+zstd", "int4+zstd", "int4+lzma"),
)


@lru_cache(maxsize=1024)
def codec(name: str, calibration: Calibration | None = None) -> CacheCodec:
    """The codec called `name`; LatentWireError for a name that is none.

    A codec that needs a calibration and has none knows sizes, and neither encodes nor decodes.
    """
    inner, plus, method = name.partition("+")
    made: CacheCodec
    composed = by_token if inner.startswith(BY_TOKEN) else mixed_precision
    if "/" in inner or composed is by_token:
        try:
            made = composed.parse(inner, _scheduled)
        except ScheduleError as error:
            raise LatentWireError(str(error)) from None
    elif inner in PER_TENSOR:
        made = PER_TENSOR[inner]
    elif inner in EMBEDDED:
        made = EMBEDDED[inner]
    elif inner in CALIBRATED:
        made = CALIBRATED[inner](calibration, calibration.digest if calibration else b"")
    else:
        raise LatentWireError(unknown_codec(inner))
    if not plus:
        return made
    if method not in lossless.NUMBERS:
        raise LatentWireError(
            f"lossless stage {method!r} is unknown; there are {', '.join(lossless.NUMBERS)}"
        )
    if not isinstance(made, FixedLength):
        raise LatentWireError(f"{inner} takes no lossless stage, which would win nothing")
    return Lossless(made, method)


def require_codec(name: str, calibration: str = "") -> None:
    """LatentWireError for a codec that there is not, or a calibration that it does not take."""
    codec(name)
    if calibration and not needs_calibration(name):
        raise LatentWireError(f"codec {name} takes no calibration")


def read_codec(
    number: int, reader: Reader, layout: Layout, calibration: Calibration | None
) -> CacheCodec:
    """The codec that a header names by number and parameters; PacketError if no codec has that
    number."""
    if number in _LOSSLESS_BY_NUMBER:
        behind = reader.byte()
        if behind in _LOSSLESS_BY_NUMBER:  # before it is read: such stages could nest for ever
            raise PacketError("a lossless stage cannot stand behind another one")
        inner = read_codec(behind, reader, layout, calibration)
        if not isinstance(inner, FixedLength):
            raise PacketError(f"a lossless stage cannot stand behind {inner.name}")
        return Lossless(inner, _LOSSLESS_BY_NUMBER[number])
    if number == by_token.NUMBER:
        return by_token.read(reader, layout, _BY_NUMBER)
    if number == mixed_precision.NUMBER:
        return mixed_precision.read(reader, layout, _BY_NUMBER)
    if number in _CALIBRATED_BY_NUMBER:
        digest = reader.bytes(DIGEST_BYTES)
        if calibration is not None and calibration.digest != digest:
            raise PacketError(
                f"the packet was coded with calibration {digest.hex()},"
                f" this end has {calibration.digest.hex()}"
            )
        return _CALIBRATED_BY_NUMBER[number](calibration, digest)
    if number == WHOLE_STREAM.number:
        return WHOLE_STREAM
    if number not in _BY_NUMBER:
        raise PacketError(f"codec number {number} is unknown")
    return _BY_NUMBER[number]


def _scheduled(name: str) -> PerTensor:
    if name not in PER_TENSOR:
        raise ScheduleError(
            f"codec {name!r} cannot be part of another{known_names(name, PER_TENSOR, LISTING)}"
        )
    return PER_TENSOR[name]
