"""Codes of 8 bits of which any number of leading bits, `planes`, is a code too.

    centre = float16((min x + max x) / 2)    reach = float16(max |x - centre|)
    code = clamp(floor(128 (x - centre) / reach) + 128, 0, 255)
    x' = centre + sign * level * (reach / 256)

The first bit of a code says on which side of the centre x lies, the next ones halve the cell that
it is in, so that the first b bits are the code of b bits. Of b = 4 to 8 planes x' is the middle of
its cell; of 1 to 3, where cells are wide and most numbers lie at their inner end, it is their
measured mean, the same on both sides: `levels` holds it in 256ths of the reach for the one, two and
four cells of a side. Of no plane x' is the centre.

A row of the tensor, numbers [..., R, W], shares centre and reach. Sums are of whole numbers and all
else is elementwise, so that a batch on any device gives the bits of an example alone.

Source: embedded quantization, Taubman and Marcellin, JPEG2000 (2002), section 3.2; the measured
means are this project's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentwire.channel.block_scales import EPS, LARGEST
from latentwire.channel.codec import CodecError

BITS = 8
MOST_AT_ONCE = 1 << 22  # numbers
LEVELS = 7  # 1 + 2 + 4 cells on a side, of 1, 2 and 3 planes
_LARGEST_COARSE = 0xF7  # 61440 in float16
_LEVELLED = 3  # planes up to which levels are measured
_MIDDLES = (128, 64, 192, 32, 96, 160, 224)  # of these cells


@dataclass(frozen=True)
class Nested:
    """A tensor of a batch, [B, R, W]."""

    codes: Tensor  # uint8 [B, R, W]; bits that did not arrive are 0
    reach: Tensor  # float16 [B, R]
    centre: Tensor  # float16 [B, R]
    levels: Tensor  # uint8 [B, 7]

    @property
    def octaves(self) -> Tensor:
        """By how many powers of two each row's cells are finer than the widest: int32 [B, R]."""
        exponents = torch.frexp(self.reach.float()).exponent
        return exponents.amax(1, keepdim=True) - exponents if exponents.shape[1] else exponents


def quantize(x: Tensor, own: Tensor) -> Nested:
    """Codes of numbers [B, R, W]; levels are measured on those that are the example's `own` (bool,
    broadcast to x), which the others repeat. Numbers that are none give codes of no meaning."""
    x = x.float().nan_to_num()
    low, high = x.aminmax(dim=-1, keepdim=True)
    # Halved first: the sum of two large numbers may be no finite float32.
    centre = (low / 2 + high / 2).clamp(-LARGEST, LARGEST).half()
    x = x - centre.float()
    return _coded(x, centre, _reach(x), own)


def quantize_about_zero(x: Tensor, own: Tensor) -> Nested:
    """The same for rows whose centre is 0, with a reach that is rounded up to three bits behind the
    first: `reach_bytes` has all of it."""
    x = x.float().nan_to_num()
    reach = (_reach(x).view(torch.int16) + 127) >> 7 << 7  # the upper nine bits, the first is 0
    reach = reach.clamp_max(_LARGEST_COARSE << 7).view(torch.float16)
    return _coded(x, torch.zeros_like(reach), reach, own)


def reach_bytes(reach: Tensor) -> Tensor:
    """The reach of `quantize_about_zero` in a byte: uint8."""
    return (reach.contiguous().view(torch.int16) >> 7).to(torch.uint8)


def reach_of(coarse: Tensor) -> Tensor:
    """What `reach_bytes` was given; CodecError for what it does not give."""
    if bool(((coarse == 0) | (coarse > _LARGEST_COARSE)).any()):
        raise CodecError("planes payload has a reach that is not a positive number")
    return (coarse.to(torch.int16) << 7).view(torch.float16)


def _reach(x: Tensor) -> Tensor:
    return x.abs().amax(-1, keepdim=True).clamp(EPS, LARGEST).half()


def _coded(x: Tensor, centre: Tensor, reach: Tensor, own: Tensor) -> Nested:
    # Centre and reach are rounded before they are used: what is divided by is what is sent.
    places = (x / (reach.float() / 128)).floor().clamp(-128, 127)
    codes = (places + 128).to(torch.uint8)
    levels = _levels(_sizes(codes), own.expand_as(codes))
    return Nested(codes, reach[..., 0], centre[..., 0], levels)


def values(coded: Nested, planes: Tensor) -> Tensor:
    """What the first `planes` bits (int [B, R, W] or [B, R, 1]) of each code stand for, float32."""
    batch, rows, width = coded.codes.shape
    step = max(1, MOST_AT_ONCE // (batch * width))
    parts = [slice(start, start + step) for start in range(0, max(1, rows), step)]
    return torch.cat([_values(coded, planes, part) for part in parts], 1)


def _values(coded: Nested, planes: Tensor, part: slice) -> Tensor:
    """The same of some rows: what is computed on the way takes ten times the memory."""
    codes, planes = coded.codes[:, part], planes[:, part].int()
    level = _level_of(_sizes(codes), planes, coded.levels)
    signed = torch.where(codes >= 128, level, -level).float()
    reach, centre = (x[:, part, None].float() for x in (coded.reach, coded.centre))
    return signed * (reach / 256) + centre


def errors(coded: Nested, own: Tensor) -> Tensor:
    """Squared error of each row in (reach / 256)^2 after 0 to 8 planes: int64 [B, R, 9]."""
    sizes = _sizes(coded.codes)
    found = [sizes.square().where(own, 0).sum(-1)]
    for planes in range(1, BITS + 1):
        level = _level_of(sizes, sizes.new_tensor(planes), coded.levels)
        found.append((sizes - level).square().where(own, 0).sum(-1))
    return torch.stack(found, -1)


def _sizes(codes: Tensor) -> Tensor:
    """Distance from the centre in 256ths of the reach, of the middle of an 8-bit cell: int32."""
    return (2 * codes.int() - 255).abs()


def _levels(sizes: Tensor, own: Tensor) -> Tensor:
    """The mean of `own` sizes in each cell, rounded; the middle of a cell that is empty."""
    cells = sizes >> 6
    inside = [own & (cells == cell) for cell in range(4)]
    counts = torch.stack([each.sum((1, 2)) for each in inside], 1)
    sums = torch.stack([sizes.where(each, 0).sum((1, 2)) for each in inside], 1)
    counts, sums = (
        torch.cat([x.sum(1, keepdim=True), x.unflatten(1, (2, 2)).sum(2), x], 1)
        for x in (counts, sums)
    )
    means = (2 * sums + counts) // (2 * counts).clamp_min(1)
    return torch.where(counts > 0, means, sizes.new_tensor(_MIDDLES)).to(torch.uint8)


def _level_of(sizes: Tensor, planes: Tensor, levels: Tensor) -> Tensor:
    """The level that stands for each of `sizes` [B, R, W] after so many planes, int32."""
    cells = sizes >> (9 - planes)
    middle = (2 * cells + 1) << (8 - planes)
    first = (1 << (planes - 1).clamp_min(0)) - 1
    measured = (planes >= 1) & (planes <= _LEVELLED)
    place = (first + cells).where(measured, 0).expand_as(sizes).flatten(1).long()
    level = levels.int().gather(1, place).view_as(sizes).where(measured, middle)
    return level.where(planes > 0, 0)
