"""CRC-32 (zlib's) of many messages of one length, where they are: on a device, by a kernel.

    register = 0xFFFFFFFF, the message's bits through it modulo P, all bits of the result inverted

Without start and end, the checksum is linear. Both depend on the length alone, as does what bytes
in front that all messages have in common come to: they go in as one number. P is 0xEDB88320 in
zlib's reflected order (ISO 3309), in which the top bit of a word is x^0. Source of the algebra:
`crc32_combine` of zlib.
"""

import struct
import zlib
from functools import cache, lru_cache

import torch
from torch import Tensor

from c2c.triton_support import available, interpreted

POLYNOMIAL = 0xEDB88320
BYTES = 4  # of a checksum, and of the words in which the kernel reads
LANES, STEPS = 512, 16  # words that a program takes at a time, and how often at most
ONE = 1 << 31  # x^0


def of(*parts: bytes | memoryview) -> bytes:
    """The checksum of some bytes of the host, as it is sent."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return struct.pack("<I", found)


def on(device: torch.device) -> bool:
    """Whether a device takes checksums itself."""
    return available() and (device.type == "cuda" or interpreted())


def add(rows: Tensor, start: int, end: int, before: bytes) -> None:
    """Add, by exclusive or, the checksum of `before` and bytes `start` to `end` - 1 of each row to
    the four bytes (little-endian) behind: a checksum where those are zero, zero where they are the
    right one.

    `rows` are uint8 [B, stride], the rows without gaps, on a device that does it (`on`); `end`
    and stride are multiples of 4, and start < end.
    """
    from latentwire.channel.kernels import checksum_kernel

    words = rows.view(torch.int32)
    batch, stride = words.shape
    first, skipped = divmod(start, BYTES)
    count = end // BYTES - first
    segments = -(-count // (LANES * STEPS))
    steps = STEPS if segments > 1 else -(-count // LANES)
    mask, constant = -1 << 8 * skipped, _signed(_constant(before, end - start))
    with torch.cuda.device_of(rows):
        checksum_kernel.fold[(batch * segments,)](
            words, _lane_factors(rows.device), _segment_factors(_enough(segments), rows.device),
            stride, first, count, segments, steps, mask, constant,
            LANES=LANES, POWERS=_powers(), POLYNOMIAL=_signed(POLYNOMIAL), num_warps=4,
        )  # fmt: skip


def _constant(before: bytes, length: int) -> int:
    """The checksum of `before` and so many zeros."""
    # The register stands at the inverse of what zlib gives.
    register = zlib.crc32(before) ^ 0xFFFFFFFF
    return times(register, power(8 * length)) ^ 0xFFFFFFFF


def times(a: int, b: int) -> int:
    """a * b mod P."""
    product = 0
    for bit in range(31, -1, -1):  # from x^0 up
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(1 << 10)
def power(exponent: int) -> int:
    """x^exponent mod P."""
    product, place = ONE, 0
    while exponent >> place:
        if exponent >> place & 1:
            product = times(product, _square(place))
        place += 1
    return product


@cache
def _square(place: int) -> int:
    """x^(2^place) mod P."""
    if not place:
        return ONE >> 1
    half = _square(place - 1)
    return times(half, half)


@cache
def _powers() -> tuple[int, ...]:
    """What bit i of a word stands for, LANES words on: x^(31 - i) * x^(32 LANES)."""
    return tuple(_signed(power(31 - bit + 32 * LANES)) for bit in range(32))


@cache
def _lane_factors(device: torch.device) -> Tensor:
    """x^(32 * places from the end) of each lane, the last one's 32: int32 [LANES]."""
    return torch.tensor(
        [_signed(power(32 * (LANES - lane))) for lane in range(LANES)],
        dtype=torch.int32,
        device=device,
    )


@cache
def _segment_factors(count: int, device: torch.device) -> Tensor:
    """x^(32 * words behind it) of each segment, from the last back: int32 [count]."""
    step, found = power(32 * LANES * STEPS), [ONE]
    while len(found) < count:
        found.append(times(found[-1], step))
    return torch.tensor([*map(_signed, found)], dtype=torch.int32, device=device)


def _enough(segments: int) -> int:
    """So many or more, few different numbers: of each there is a table."""
    return max(256, 1 << (segments - 1).bit_length())


def _signed(word: int) -> int:
    """32 bits as the int32 that has them."""
    return word - (word >> 31 << 32)
