"""What the kernels must know of a codec: its rule, and the tables that a device keeps for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from c2c.quantize import EPS, largest_code
from latentwire.channel import mxfp4, nf4, rotation
from latentwire.channel.asymmetric import Asymmetric
from latentwire.channel.block_scales import EPS as EPS16
from latentwire.channel.codec import Codec
from latentwire.channel.fp8 import FP8
from latentwire.channel.grouped import Grouped
from latentwire.channel.mxfp4 import MXFP4
from latentwire.channel.nf4 import NF4
from latentwire.channel.raw import Raw
from latentwire.channel.rotation import Rotation
from latentwire.channel.symmetric import Symmetric

PACKED_BITS = (2, 3, 4, 8)  # of codes that `store_codes` packs


@dataclass(frozen=True, eq=False)  # one of each codec: tables are kept by it
class KernelSpec:
    """What the kernels must know of a codec; names as in `codec_math` and `scale_kernels`."""

    name: str
    bits: int
    limit: float  # what the largest magnitude is divided by for the scale
    eps: float
    scales: str  # float32 by "head" or "layer", float16 by "token", or "channel" of a head
    group: int = 0  # numbers that share a scale of a token; 0: all of head_dim
    per_unit: int = 0  # cells a unit, where many boundaries are looked up by cell
    levels: tuple[float, ...] = ()
    boundaries: tuple[float, ...] = ()
    # Of the second half of a rotated row, where its codes have fewer bits and a field of their own.
    coarse_bits: int = 0
    coarse_levels: tuple[float, ...] = ()
    coarse_boundaries: tuple[float, ...] = ()
    dtype: torch.dtype | None = None  # of codes that are floats

    @property
    def over_tokens(self) -> bool:
        """Whether tokens share scales, which are known when all have been read."""
        return self.scales != "token"

    def behind(self, fields: Sequence[int]) -> Sequence[int]:
        """Of where a payload's fields begin, those behind the first that every kernel of the rule
        wants to know."""
        wanted = {"zero_point": 3, "float": 1}.get(self.name, 2)
        return fields[1:wanted]


@cache
def spec_of(codec: Codec) -> KernelSpec | None:
    """The kernels' rule for a codec, None where they have none."""
    if isinstance(codec, Symmetric) and codec.bits in PACKED_BITS:
        return KernelSpec("integer", codec.bits, float(largest_code(codec.bits)), EPS, codec.axis)
    if isinstance(codec, Grouped) and codec.bits in PACKED_BITS:
        limit = float(largest_code(codec.bits))
        return KernelSpec("integer", codec.bits, limit, EPS16, "token", codec.size)
    if isinstance(codec, Asymmetric) and codec.bits in PACKED_BITS:
        limit = float(2**codec.bits - 1)
        return KernelSpec("zero_point", codec.bits, limit, EPS16, codec.axis)
    if isinstance(codec, MXFP4):
        return KernelSpec("mxfp4", codec.bits, mxfp4.MAGNITUDES[-1], 0.0, "token", mxfp4.SIZE)
    if isinstance(codec, NF4):
        return KernelSpec("nf4", 4, 1.0, EPS16, "token", nf4.SIZE, 16, nf4.LEVELS, nf4.MIDDLES)
    if isinstance(codec, FP8):
        name = "e4m3" if codec.dtype == torch.float8_e4m3fn else "e5m2"
        return KernelSpec(name, 8, codec.largest_code, EPS, "head", dtype=codec.dtype)
    if isinstance(codec, Raw):
        return KernelSpec("float", int(codec.bits), 1.0, 0.0, "token", dtype=codec.dtype)
    if isinstance(codec, Rotation):
        return _of_rotation(codec.bits)
    return None


@cache
def _of_rotation(rate: float) -> KernelSpec:
    bits, coarse = math.ceil(rate), math.floor(rate)
    levels, bounds = rotation.levels(bits), rotation.BOUNDARIES[bits]
    spec = KernelSpec("rotation", bits, 1.0, EPS16, "token", 0, 0, levels, bounds)
    if coarse == bits:
        return spec
    return replace(
        spec,
        coarse_bits=coarse,
        coarse_levels=rotation.levels(coarse),
        coarse_boundaries=rotation.BOUNDARIES[coarse],
    )


@cache
def cells(rule: KernelSpec) -> tuple[int, tuple[float, ...], tuple[int, ...]]:
    """Number of the first cell (cell k lies around k / per_unit), each cell's boundary (infinity
    for none) and how many boundaries lie below it; nothing for a rule without cells."""
    if not rule.per_unit:
        return 0, (), ()
    first, last = (
        round(edge * rule.per_unit) for edge in (rule.boundaries[0], rule.boundaries[-1])
    )
    found, below = [], []
    for cell in range(first - 1, last + 2):
        low, high = (cell - 0.5) / rule.per_unit, (cell + 0.5) / rule.per_unit
        inside = [b for b in rule.boundaries if low <= b < high]
        # Rounding may take a number at a cell's edge to its neighbour: none has a boundary there.
        assert len(inside) <= 1 and all(min(b - low, high - b) > 1e-4 for b in inside)
        found.append(inside[0] if inside else float("inf"))
        below.append(sum(b < low for b in rule.boundaries))
    return first - 1, tuple(found), tuple(below)


@cache
def table(rule: KernelSpec, device: torch.device) -> Tensor | None:
    """Levels by code with the cells behind them, where the rule has levels; the coarse ones follow
    the fine."""
    if not rule.levels:
        return None
    _, boundaries, below = cells(rule)
    whole = torch.tensor(below, dtype=torch.int32).view(torch.float32)
    numbers = torch.tensor([*rule.levels, *rule.coarse_levels, *boundaries])
    return torch.cat([numbers, whole]).to(device)
