import hashlib
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import norm
from torch import Tensor

from latentwire.channel import block_scales
from latentwire.channel.codec import CodecError
from latentwire.channel.rotation import (
    BOUNDARIES,
    LEVELS,
    Rotation,
    hadamard,
    nearest,
    norms,
    parts,
    root_mean_square,
    signs,
)

CPU = torch.device("cpu")
RATES = (1, 1.5, 2, 2.5, 3, 3.5, 4)
FIRST_SIGNS = (
    "---++--++-+-+-+-+-------+--++---+-+--+++-+-+++++++---++---++++++-+++-"  # D = 5, then 64
)
SIGNS = (
    "1e908efb021ff1450e5451d7f46546161a2757d1696d742922d305cb891c9344"  # sha256, D = 5, 64, 96, 128
)
DISTORTION = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497}  # Max (1960), table I


def rotation(bits: float) -> Rotation:
    return Rotation(f"rot{bits}", 200, bits)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bits_of(x: Tensor) -> Tensor:
    """The numbers' own bits: tells -0 from 0."""
    return x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


def relative_error(x: Tensor, decoded: Tensor) -> float:
    return float(((decoded.double() - x.double()) ** 2).sum() / (x.double() ** 2).sum())


@pytest.mark.parametrize("bits", LEVELS)
def test_the_levels_are_lloyd_and_maxs(bits: int) -> None:
    # At the optimum each level is the mean of N(0, 1) between the boundaries around it.
    levels = np.array(LEVELS[bits])
    edges = np.array([0.0, *(levels[1:] + levels[:-1]) / 2, np.inf])
    means = -np.diff(norm.pdf(edges)) / np.diff(norm.cdf(edges))
    assert levels == pytest.approx(means, abs=1e-6)
    assert edges[1:-1] == pytest.approx(np.array(BOUNDARIES[bits]))
    # No other point of that kind is near: iterating from quantiles ends at the same levels.
    own = norm.ppf(0.5 + (np.arange(len(levels)) + 0.5) / (2 * len(levels)))
    for _ in range(2000):
        edges = np.array([0.0, *(own[1:] + own[:-1]) / 2, np.inf])
        own = -np.diff(norm.pdf(edges)) / np.diff(norm.cdf(edges))
    assert levels == pytest.approx(own, abs=1e-6)
    assert 1 - 2 * (np.diff(norm.cdf(edges)) * own**2).sum() == pytest.approx(
        DISTORTION[bits], rel=1e-3
    )


@pytest.mark.parametrize("head_dim", [1, 2, 5, 64, 96, 128])
def test_the_transform_is_orthonormal_and_its_own_inverse(head_dim: int) -> None:
    matrix = hadamard(torch.eye(head_dim)) * norms(head_dim, CPU)
    assert torch.equal(matrix.abs() > 0, torch.block_diag(*map(square, parts(head_dim))) > 0)
    assert torch.equal(matrix, matrix.T)
    assert matrix.double() @ matrix.double() == pytest.approx(np.eye(head_dim), abs=1e-6)


def square(size: int) -> Tensor:
    return torch.ones(size, size)


def test_the_transform_is_in_natural_order() -> None:
    whole = hadamard(torch.eye(8))
    parity = [[bin(row & column).count("1") % 2 for column in range(8)] for row in range(8)]
    assert whole.tolist() == [[1.0 - 2 * odd for odd in row] for row in parity]


def test_the_parts_of_a_width() -> None:
    assert [parts(width) for width in (5, 64, 96, 1)] == [[4, 1], [64], [64, 32], [1]]


def test_the_signs_never_change() -> None:
    text = "".join("+" if sign > 0 else "-" for d in (5, 64, 96, 128) for sign in signs(d, CPU))
    assert hashlib.sha256(text.encode()).hexdigest() == SIGNS
    assert text.startswith(FIRST_SIGNS)
    assert 0.4 < text.count("+") / len(text) < 0.6


@pytest.mark.parametrize("bits", RATES)
@pytest.mark.parametrize("head_dim", [1, 5, 64, 96])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_round_trip_is_decoding_what_was_encoded(
    bits: float, head_dim: int, data: st.DataObject
) -> None:
    codec = rotation(bits)
    batch, heads, tokens = (data.draw(st.integers(1, 3)) for _ in range(3))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    spread = data.draw(st.sampled_from([1e-8, 1.0, 3e3]))
    x = (normal(batch, heads, tokens, head_dim, seed=data.draw(st.integers(0, 99))) * spread).to(
        dtype
    )
    expected = codec.round_trip(x)
    assert expected.dtype == dtype and expected.shape == x.shape
    for i in range(batch):
        payload = codec.encode(x[i])
        assert len(payload) == codec.payload_bytes((heads, tokens, head_dim))
        decoded = codec.decode(memoryview(payload), (heads, tokens, head_dim))
        assert decoded.dtype == torch.float32
        assert torch.equal(bits_of(decoded.to(dtype)), bits_of(expected[i]))


@pytest.mark.parametrize("bits", [2, 2.5, 4])
@pytest.mark.parametrize("head_dim", [64, 96])
def test_neither_batch_nor_strides_change_a_bit(bits: float, head_dim: int) -> None:
    codec = rotation(bits)
    x = normal(4, 3, 37, head_dim, seed=2)
    whole = codec.round_trip(x)
    tokens_first = x.transpose(1, 2).contiguous().transpose(1, 2)
    channels_apart = x.mT.contiguous().mT
    for view in (tokens_first, channels_apart, x.repeat_interleave(2, 2)[:, :, ::2]):
        assert torch.equal(bits_of(codec.round_trip(view)), bits_of(whole))
    for token in (0, 5, 36):
        one = codec.round_trip(x[1:2, :, token : token + 1])
        assert torch.equal(bits_of(one), bits_of(whole[1:2, :, token : token + 1]))


@pytest.mark.parametrize("bits", RATES)
def test_gaussian_numbers_lose_what_lloyd_and_max_lose(bits: float) -> None:
    x = normal(1, 2, 2000, 128, seed=3)
    expected = (DISTORTION[math.floor(bits)] + DISTORTION[math.ceil(bits)]) / 2
    assert relative_error(x, rotation(bits).round_trip(x)) == pytest.approx(expected, rel=0.05)


def test_an_outlier_channel_costs_no_more_than_a_calm_one() -> None:
    x = normal(1, 2, 500, 64, seed=4)
    x[..., 9] *= 30  # a K cache's channel
    assert relative_error(x, rotation(4).round_trip(x)) < 1.3 * DISTORTION[4]


def test_the_scale_is_the_root_mean_square() -> None:
    x = normal(7, 5, 96, seed=6)
    expected = x.double().square().mean(-1, keepdim=True).sqrt()
    assert root_mean_square(x).double() == pytest.approx(expected.numpy(), rel=1e-6)
    assert root_mean_square(torch.tensor([3.0, 4.0, 0.0, 0.0])).tolist() == [2.5]


def test_sums_are_added_in_the_stated_order() -> None:
    x = (normal(40, 96, seed=8) * 10 ** normal(40, 96, seed=9)).numpy()
    for row in x:
        squares = [*(value * value for value in row), *[np.float32(0)] * 32]
        while len(squares) > 1:
            squares = [a + b for a, b in zip(squares[::2], squares[1::2], strict=True)]
        expected = np.sqrt(squares[0] * np.float32(1 / 96))
        assert root_mean_square(torch.from_numpy(row)).numpy() == expected
        whole = list(row[:64])
        for step in (1, 2, 4, 8, 16, 32):
            pairs = [(whole[i & ~step], whole[i | step]) for i in range(64)]
            whole = [a - b if i & step else a + b for i, (a, b) in enumerate(pairs)]
        assert hadamard(torch.from_numpy(row))[:64].tolist() == [float(value) for value in whole]


def test_nearest_is_nearest() -> None:
    x = torch.linspace(-4, 4, 4001)
    for bits, half in LEVELS.items():
        levels = torch.tensor([*(-level for level in reversed(half)), *half])
        distance = (x[:, None] - levels).abs()
        chosen = distance.gather(1, nearest(x, bits).long()[:, None])[:, 0]
        assert (chosen <= distance.min(1).values + 1e-6).all()
        assert nearest(torch.tensor([0.0, -0.0]), bits).tolist() == [len(half)] * 2


def test_a_payload_by_hand() -> None:
    # One channel: W and rms leave u = sign of x, whose nearest 2-bit levels are -0.45 and 1.51 or
    # their mirrors; sign(1) = s is what turns it.
    (s,) = signs(1, CPU).tolist()
    payload = rotation(2).encode(torch.tensor([[[2.0], [-3.0], [0.0]]]))
    codes = [3, 0, 2] if s > 0 else [0, 3, 2]
    packed = bytes([codes[0] | codes[1] << 2 | codes[2] << 4])
    assert payload == struct.pack("<3e", 2, 3, block_scales.EPS) + packed


@pytest.mark.parametrize(
    ("bits", "head_dim", "each"), [(4, 64, 34), (3, 128, 50), (2.5, 128, 42), (1.5, 96, 20)]
)
def test_bytes_a_token_and_head(bits: float, head_dim: int, each: int) -> None:
    assert rotation(bits).payload_bytes((2, 10, head_dim)) == 20 * each


def test_a_rate_in_between_sends_the_finer_half_first() -> None:
    x = normal(1, 4, 8, seed=7)
    fine, coarse = rotation(3).quantize(x)[1], rotation(2).quantize(x)[1]
    payload = rotation(2.5).encode(x)[2 * 4 :]
    streams = (fine[..., :4].flatten().tolist(), coarse[..., 4:].flatten().tolist())
    numbers = [
        sum(code << bits * i for i, code in enumerate(stream))
        for bits, stream in zip((3, 2), streams, strict=True)
    ]
    assert payload == numbers[0].to_bytes(6, "little") + numbers[1].to_bytes(4, "little")


@pytest.mark.parametrize("bits", RATES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_not_sent(bits: float, value: float) -> None:
    x = normal(2, 3, 64)
    x[1, 2, 5] = value
    with pytest.raises(CodecError, match="NaN or infinite"):
        rotation(bits).encode(x)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (b"\x00\x7c", "not a positive number"),  # infinity
        (b"\x00\x00", "not a positive number"),
        (b"\x00\xbc", "not a positive number"),  # -1
        (b"\x01\x7e", "not a positive number"),  # NaN
        (b"\x08\x00", "below the smallest"),  # 2^-21
    ],
)
def test_a_scale_that_nobody_sends_is_refused(scale: bytes, message: str) -> None:
    payload = scale + rotation(4).encode(normal(1, 1, 64))[2:]
    with pytest.raises(CodecError, match=message):
        rotation(4).decode(memoryview(payload), (1, 1, 64))


def test_padding_must_be_zero() -> None:
    payload = bytearray(rotation(3).encode(normal(1, 1, 5)))
    payload[-1] |= 0x80
    with pytest.raises(CodecError, match="not zero"):
        rotation(3).decode(memoryview(bytes(payload)), (1, 1, 5))


@pytest.mark.parametrize("bits", RATES)
def test_zeros_stay_small(bits: float) -> None:
    assert rotation(bits).round_trip(torch.zeros(1, 1, 3, 64)).abs().max() < 64 * block_scales.EPS


@given(npst.arrays(np.float32, (2, 3, 8), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
@settings(max_examples=40, deadline=None)
def test_large_numbers_saturate_at_the_largest_scale(values: np.ndarray) -> None:
    x = torch.from_numpy(values)
    decoded = rotation(4).decode(memoryview(rotation(4).encode(x)), (2, 3, 8))
    assert torch.isfinite(decoded).all()
    calm = (x.abs() < 6e4).all(-1)
    error = (decoded - x).square().sum(-1).sqrt()
    size = x.square().sum(-1).sqrt()
    assert (error[calm] <= 0.7 * size[calm] + 1e-4).all()


@pytest.mark.parametrize("bits", [0, 0.5, 5, 2.25])
def test_a_rate_that_there_is_not(bits: float) -> None:
    with pytest.raises(ValueError, match="not"):
        rotation(bits)
