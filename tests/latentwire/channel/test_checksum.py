"""Checksums that a device takes are zlib's: on a GPU, or in Triton's interpreter."""

import random
import zlib

import pytest
import torch

from c2c.triton_support import available, interpreted
from latentwire.channel import checksum

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
SEGMENT = 4 * checksum.LANES * checksum.STEPS  # bytes

kernels_run = pytest.mark.skipif(
    not checksum.on(DEVICE), reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1"
)


def check(batch: int, start: int, length: int, seed: int = 0) -> None:
    """Rows of random bytes, of which `length` count from `start` on, moved up to whole words."""
    generator = random.Random(seed)
    end = -(-(start + length) // 4) * 4
    start, stride = end - length, end + 4 + 4 * generator.randrange(5)
    before = generator.randbytes(generator.randrange(50))
    rows = [bytearray(generator.randbytes(stride)) for _ in range(batch)]
    for row in rows:
        row[end : end + 4] = bytes(4)
    there = torch.stack([torch.frombuffer(row, dtype=torch.uint8) for row in rows]).to(DEVICE)
    checksum.add(there, start, end, before)
    for row, found in zip(rows, there.cpu().numpy(), strict=True):
        told = zlib.crc32(row[start:end], zlib.crc32(before)).to_bytes(4, "little")
        row[end : end + 4] = told
        assert found.tobytes() == row  # and nothing else has changed
    there[-1, generator.randrange(start, end)] ^= 1 << generator.randrange(8)
    checksum.add(there, start, end, before)
    assert there[:, end : end + 4].any(1).tolist() == [False] * (batch - 1) + [True]


@kernels_run
@pytest.mark.parametrize("start", [0, 1, 2, 7])
def test_short_messages(start: int) -> None:
    for length in range(1, 201) if ON_GPU else (1, 2, 3, 4, 5, 8, 63, 200):
        check(1 + length % 2, start, length, length)


@kernels_run
@pytest.mark.parametrize(
    "length",
    [4 * checksum.LANES, SEGMENT - 4, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 2051],
)
def test_messages_of_several_segments(length: int) -> None:
    check(2, 5, length, length)


@kernels_run
@pytest.mark.skipif(not ON_GPU, reason="long messages are for a GPU")
def test_long_messages() -> None:
    for batch, length in ((1, 1_572_864), (128, 1_572_867), (1, 50_000_001), (3, 20_000_000)):
        check(batch, 37, length)


@kernels_run
def test_the_current_device_is_not_the_only_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    rows = torch.zeros(2, 16, dtype=torch.uint8, device="cuda:1")
    checksum.add(rows, 0, 8, b"")
    assert rows[0, 8:12].cpu().numpy().tobytes() == zlib.crc32(bytes(8)).to_bytes(4, "little")


def test_what_goes_in_as_a_number() -> None:
    """In plain integers: bytes in front, and the length."""
    generator = random.Random(0)
    for length in (0, 1, 7, 100, 70_000):
        before = generator.randbytes(generator.randrange(60))
        told = zlib.crc32(bytes(length), zlib.crc32(before))
        assert checksum._constant(before, length) == told
    # The definition, a bit at a time.
    register = checksum.ONE
    for exponent in range(100):
        assert checksum.power(exponent) == register
        register = (register >> 1) ^ (checksum.POLYNOMIAL if register & 1 else 0)


def test_where_there_are_kernels() -> None:
    assert checksum.on(torch.device("cuda")) is available()
    assert checksum.on(torch.device("cpu")) is (available() and interpreted())
