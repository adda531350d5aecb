"""What sets each codec with scales by block, or a floating-point code, apart from the others."""

import pytest
import torch
from torch import Tensor

from latentwire.channel.codec import CodecError
from latentwire.channel.fp8 import FP8
from latentwire.channel.grouped import WHOLE_HEAD, Grouped
from latentwire.channel.mxfp4 import MXFP4
from latentwire.channel.nf4 import LEVELS, NF4

INT4_GROUP = Grouped("int4_group", 201, 4, 32)
INT8_TOKEN = Grouped("int8_token", 202, 8, WHOLE_HEAD)
NF = NF4("nf4", 203)
E4M3 = FP8("fp8_e4m3", 204, torch.float8_e4m3fn)
E5M2 = FP8("fp8_e5m2", 205, torch.float8_e5m2)
MX = MXFP4("mxfp4", 206)


def row(*numbers: float, width: int = 32) -> Tensor:
    """[1, 1, 1, width], filled up with the last number."""
    return torch.tensor([*numbers, *[numbers[-1]] * (width - len(numbers))]).view(1, 1, 1, width)


def test_a_groups_outlier_stays_in_its_group() -> None:
    x = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).clone()
    calm = INT4_GROUP.round_trip(x)
    x[..., 40] = 1e3
    spoiled = INT4_GROUP.round_trip(x)
    assert torch.equal(calm[..., :32], spoiled[..., :32])
    assert not torch.equal(calm[..., 32:40], spoiled[..., 32:40])


def test_a_tokens_outlier_stays_in_its_token() -> None:
    x = torch.randn(1, 2, 5, 24, generator=torch.Generator().manual_seed(1))
    calm = INT8_TOKEN.round_trip(x)
    x[:, 1, 3, 7] = 1e3
    same = (INT8_TOKEN.round_trip(x) == calm).all(-1)
    assert same.sum() == 9
    assert not same[0, 1, 3]


@pytest.mark.parametrize("codec", [INT4_GROUP, INT8_TOKEN], ids=lambda codec: codec.name)
def test_the_error_is_at_most_half_a_step(codec: Grouped) -> None:
    x = torch.randn(1, 2, 50, 32, generator=torch.Generator().manual_seed(2)) * 30
    step = x.abs().amax(-1, keepdim=True) / (2 ** (codec.bits - 1) - 1)
    # A scale rounded down to float16 (relative 2^-11) leaves the largest number q * 2^-11 of a
    # step further away.
    slack = 1 + 2**-10 * (1 + 2 ** (codec.bits - 1))
    assert ((codec.round_trip(x) - x).abs() <= step / 2 * slack).all()


def test_nf4_keeps_its_levels_and_takes_the_nearest() -> None:
    exact = torch.tensor([*LEVELS, *LEVELS]).view(1, 1, 1, 32) * 4
    assert torch.equal(NF.round_trip(exact), exact)
    near = row(1.0, 0.73, 0.64, -0.6, -0.62, 0.03, 0.0)
    expected = [LEVELS[15], LEVELS[14], LEVELS[13], LEVELS[2], LEVELS[1], LEVELS[7], 0.0]
    assert NF.round_trip(near).flatten()[:7].tolist() == pytest.approx(expected)


def test_mxfp4_is_the_formats_own_arithmetic() -> None:
    # The largest magnitude, 7, gives the scale 2^(2-2) = 1. Ties go to the even code; 7 saturates.
    numbers = (7.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.3, -1.6, 0.0)
    expected = (6.0, 0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -0.5, -1.5, 0.0)
    assert MX.round_trip(row(*numbers)).flatten()[: len(numbers)].tolist() == list(expected)
    # A power of two as a factor changes the scale and nothing else.
    assert torch.equal(MX.round_trip(row(*numbers) / 64), MX.round_trip(row(*numbers)) / 64)


@pytest.mark.parametrize(("codec", "bits"), [(E4M3, 3), (E5M2, 2)], ids=["e4m3", "e5m2"])
def test_fp8_rounds_to_its_mantissa(codec: FP8, bits: int) -> None:
    x = torch.rand(1, 2, 20, 32, generator=torch.Generator().manual_seed(3)) + 0.5
    relative = (codec.round_trip(x) - x).abs() / x
    assert relative.max() <= 2.0 ** -(bits + 1) * (1 + 1e-6)
    assert relative.max() > 2.0 ** -(bits + 3)


@pytest.mark.parametrize(("codec", "bits"), [(INT4_GROUP, 4.5), (NF, 4.5), (MX, 4.25), (E4M3, 8.0)])
def test_bits_a_number_are_all_in(codec: Grouped | NF4 | MXFP4 | FP8, bits: float) -> None:
    shape = (2, 118, 64)
    assert 8 * codec.payload_bytes(shape) / (2 * 118 * 64) == pytest.approx(bits, abs=0.01)


@pytest.mark.parametrize(
    ("codec", "byte", "message"),
    [
        (INT4_GROUP, b"\x00\x7c", "not a positive number"),  # float16 infinity as a scale
        (NF, b"\x00\x80", "not a positive number"),  # minus zero
        (MX, b"\xff", "not a number"),
        (E4M3, b"\x00\x00\xc0\x7f", "not a positive number"),  # float32 NaN
    ],
    ids=["int4_group", "nf4", "mxfp4", "fp8"],
)
def test_a_scale_that_is_none_is_refused(
    codec: Grouped | NF4 | MXFP4 | FP8, byte: bytes, message: str
) -> None:
    shape = (1, 1, 32)
    payload = byte + codec.encode(row(1.0, 0.5)[0])[len(byte) :]
    with pytest.raises(CodecError, match=message):
        codec.decode(memoryview(payload), shape)


def test_an_fp8_code_that_is_no_number_is_refused() -> None:
    payload = bytearray(E4M3.encode(row(1.0, 0.5)[0]))
    payload[-1] = 0x7F
    with pytest.raises(CodecError, match="NaN or infinite"):
        E4M3.decode(memoryview(bytes(payload)), (1, 1, 32))
