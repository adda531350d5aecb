"""Lloyd-Max codes of the rotated vector of one token and head: few bits, no outlier channel.

    s = float16(sqrt(mean of x^2))     u = W (signs * x / s)
    code = nearest of the Lloyd-Max levels of N(0, 1)
    x' = signs * W levels[code] * s

A rotation by random signs and a Walsh-Hadamard transform W spreads a large channel over all of
them: every coordinate of u is then close to N(0, 1), for which the levels with the least mean
squared error are known in advance. W is orthonormal and its own inverse; it is block diagonal over
the powers of two that D is the sum of, largest first, so that any D has one (96 = 64 + 32).

A rate between two whole numbers (1.5, 2.5, 3.5) gives the first half of each block's coordinates
one bit more than the rest. The coordinates of a rotated vector are exchangeable: no half is better.

All sums are trees of single additions in a fixed order, so that a result depends neither on the
batch around it nor on strides nor on the device. Payload: float16 scales in order of head, token;
then the codes packed as in `payload_parts`, for a rate in between as two streams, the finer first.

Source: TurboQuant (Zandieh et al., arXiv:2504.19874), the variant for mean squared error, with a
randomised Hadamard transform in place of a dense rotation; levels: Lloyd (1982), Max (1960).
"""

import math
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from latentwire.channel import block_scales
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import NOT_POSITIVE, Codes, Floats, not_positive

# Positive half of the levels by bits; the other half mirrors it.
LEVELS = {
    1: (0.7978845608028654,),
    2: (0.4527800346364912, 1.5104176084990946),
    3: (0.24509417894422095, 0.7560052812058762, 1.3439092785049973, 2.1519457045369856),
    4: (
        *(0.1283950298511459, 0.3880482994902879, 0.65675911853246, 0.9423404564869579),
        *(1.256231197347172, 1.6180463860218763, 2.0690172265313853, 2.7325895709951595),
    ),
}
# A magnitude goes to the level above a boundary when it lies past it.
BOUNDARIES = {
    bits: tuple((low + high) / 2 for low, high in pairwise(levels))
    for bits, levels in LEVELS.items()
}
SIGN_SEED = 0x4C617465_6E745769
_MASK = 2**64 - 1


class Rotation(Codec):
    """`bits` a coordinate: 1, 2, 3, 4 or halfway between two of them."""

    keeps_flat = False

    def __init__(self, name: str, number: int, bits: float) -> None:
        if 2 * bits not in range(2, 9):
            raise ValueError(f"a rotated coordinate has 1, 1.5, 2, ... 4 bits, not {bits}")
        self.name, self.number, self.bits = name, number, bits

    def fields(self, shape: Shape) -> tuple[Floats | Codes, ...]:
        heads, tokens, head_dim = shape
        streams = _streams(self.bits, head_dim, torch.device("cpu"))
        codes = (Codes((heads, tokens, len(at)), bits) for bits, at in streams)
        return (Floats((heads, tokens, 1), torch.float16), *codes)

    def quantize(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scales [..., H, T, 1] (float16), and each stream's codes [..., H, T, own] (int16)."""
        x, head_dim = x.float(), x.shape[-1]
        scale = root_mean_square(x).clamp(block_scales.EPS, block_scales.LARGEST).half()
        # Divided by the scale first: a sum of the largest float32 numbers would overflow.
        factor = scale.float().reciprocal() * norms(head_dim, x.device)
        rotated = hadamard(x * factor * signs(head_dim, x.device))
        streams = _streams(self.bits, head_dim, x.device)
        if len(streams) == 1:
            return scale, nearest(rotated, streams[0][0])
        return scale, *(nearest(rotated[..., at], bits) for bits, at in streams)

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, *codes = numbers
        device, head_dim = scale.device, sum(each.shape[-1] for each in codes)
        streams = _streams(self.bits, head_dim, device)
        known = [
            _levels(bits, device)[own.int()] for (bits, _), own in zip(streams, codes, strict=True)
        ]
        values = known[0]
        if len(known) > 1:
            values = values.new_empty(*values.shape[:-1], head_dim)
            for (_, at), own in zip(streams, known, strict=True):
                values[..., at] = own
        factor = scale.float() * norms(head_dim, device)
        return hadamard(values) * factor * signs(head_dim, device)

    def faults(self, *numbers: Tensor) -> list[Fault]:
        small = "payload has a scale below the smallest that is sent"
        scale = numbers[0]
        return [(not_positive(scale), NOT_POSITIVE), (scale < block_scales.EPS, small)]


@cache
def _streams(bits: float, head_dim: int, device: torch.device) -> list[tuple[int, Tensor]]:
    """Bits and coordinates of each stream of codes: one, or for a rate in between two."""
    low, high = math.floor(bits), math.ceil(bits)
    if low == high:
        return [(low, torch.arange(head_dim, device=device))]
    fine = torch.zeros(head_dim, dtype=torch.bool)
    start = 0
    for size in parts(head_dim):
        fine[start : start + (size + 1) // 2] = True
        start += size
    streams = [(high, fine.nonzero()[:, 0]), (low, (~fine).nonzero()[:, 0])]
    # D = 1 has no coarse coordinate.
    return [(bits, at.to(device)) for bits, at in streams if len(at)]


@cache
def _levels(bits: int, device: torch.device) -> Tensor:
    return torch.tensor(levels(bits), device=device)


@cache
def _boundaries(bits: int, device: torch.device) -> Tensor:
    return torch.tensor(BOUNDARIES[bits], device=device)


def levels(bits: int) -> tuple[float, ...]:
    """What codes of so many bits stand for, by code."""
    return (*(-level for level in reversed(LEVELS[bits])), *LEVELS[bits])


def parts(head_dim: int) -> list[int]:
    """The powers of two that `head_dim` is the sum of, largest first: 96 gives 64 and 32."""
    return [1 << bit for bit in reversed(range(head_dim.bit_length())) if head_dim >> bit & 1]


def hadamard(x: Tensor) -> Tensor:
    """The Walsh-Hadamard transform of each part of [..., D] (float32), not normalised.

    In natural order, by sums and differences of neighbours 1, 2, 4, ... apart, in this order.
    """
    turned = [_butterflies(part) for part in x.split(parts(x.shape[-1]), -1)]
    return turned[0] if len(turned) == 1 else torch.cat(turned, -1)


def _butterflies(x: Tensor) -> Tensor:
    step = 1
    while step < x.shape[-1]:
        first, second = x.unflatten(-1, (-1, 2, step)).unbind(-2)
        room = x.new_empty(*first.shape[:-1], 2, step)
        torch.add(first, second, out=room[..., 0, :])
        torch.sub(first, second, out=room[..., 1, :])
        x = room.flatten(-3)
        step *= 2
    return x


@cache
def norms(head_dim: int, device: torch.device) -> Tensor:
    """What makes `hadamard` orthonormal: 1 / sqrt(size) of each channel's part, float32 [D]."""
    factors = [size**-0.5 for size in parts(head_dim) for _ in range(size)]
    return torch.tensor(factors, device=device)


@cache
def signs(head_dim: int, device: torch.device) -> Tensor:
    """+1 or -1 for each channel, float32 [D]: the top bits of a splitmix64 sequence of its own for
    each D. Part of the format: they never change."""
    bits = []
    for channel in range(1, head_dim + 1):
        z = (SIGN_SEED + head_dim * 0xD1342543DE82EF95 + channel * 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
        bits.append((z ^ z >> 31) >> 63)
    return torch.tensor([1.0 - 2.0 * bit for bit in bits], device=device)


def root_mean_square(x: Tensor) -> Tensor:
    """sqrt(mean of x^2) over the last dimension (kept), float32: neighbours are added in pairs
    until one number is left, zeros filling up to a power of two."""
    channels = x.shape[-1]
    total, short = x * x, (1 << (channels - 1).bit_length()) - channels
    if short:
        total = F.pad(total, (0, short))
    while total.shape[-1] > 1:
        total = total[..., 0::2] + total[..., 1::2]
    # Torch's float32 square root on a CPU is an ulp off at times, not alike in vectors and alone.
    # The one in float64, rounded to float32, is the correctly rounded one everywhere.
    return torch.sqrt((total * (1 / channels)).double()).float()


def nearest(x: Tensor, bits: int) -> Tensor:
    """Number of the level nearest to x (int16, 0 to 2^bits - 1, from the lowest level up); on a
    boundary the one nearer to 0, and for 0 the positive one."""
    distance = x.abs()
    if x.is_cuda:  # one kernel; a CPU compares sooner than it searches
        table = _boundaries(bits, x.device)
        magnitude = torch.bucketize(distance, table, out_int32=True).short()
    else:
        magnitude = torch.zeros(x.shape, dtype=torch.int16)
        for boundary in BOUNDARIES[bits]:
            magnitude += distance > boundary
    half = len(LEVELS[bits])
    return torch.where(x < 0, half - 1 - magnitude, half + magnitude)
