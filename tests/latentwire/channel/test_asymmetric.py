"""What the formula of the asymmetric integers promises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentwire.channel.asymmetric import AXES, Asymmetric
from latentwire.channel.codec import CodecError
from latentwire.channel.registry import PER_TENSOR

BITS = (8, 4, 3, 2)


@given(
    st.sampled_from(BITS),
    st.sampled_from(sorted(AXES)),
    st.integers(0, 1000),
    st.floats(-1000, 1000),
    st.floats(0.001, 100),
)
def test_the_error_is_half_a_step_and_what_float16_costs(
    bits: int, axis: str, seed: int, offset: float, spread: float
) -> None:
    x = offset + spread * torch.randn(1, 2, 9, 7, generator=torch.Generator().manual_seed(seed))
    low, high = x.aminmax(dim=AXES[axis], keepdim=True)
    step = (high - low) / (2**bits - 1)
    # The zero point, rounded to float16, moves the whole range by up to 2^-11 of it, at either
    # end of which codes run out; a scale rounded down runs out by as much of the range.
    # Below 2^-14 float16 has steps of 2^-24.
    rounding = low.abs() * 2**-11 + (high - low) * 2**-11 + 2**-20 + 2**bits * 2**-24
    error = (Asymmetric("a", 1, bits, axis).round_trip(x) - x).abs()
    assert (error <= step / 2 * (1 + 2**-10) + 2 * rounding + x.abs() * 2**-22).all()


def test_a_channel_that_is_large_everywhere_costs_the_others_nothing() -> None:
    """The reason for coding keys by channel."""
    x = torch.randn(1, 1, 50, 16, generator=torch.Generator().manual_seed(0))
    codec = Asymmetric("a", 1, 4, "channel")
    calm = codec.round_trip(x)
    x[..., 3] += 500
    loud = codec.round_trip(x)
    others = [channel for channel in range(16) if channel != 3]
    assert torch.equal(calm[..., others], loud[..., others])
    assert (loud - x)[..., 3].abs().max() < 0.7


def test_keys_go_by_channel_and_values_by_token() -> None:
    kivi = PER_TENSOR["kivi2"]
    assert isinstance(keys := kivi.at("key", 0), Asymmetric) and keys.axis == "channel"
    assert isinstance(values := kivi.at("value", 5), Asymmetric) and values.axis == "token"
    assert keys.payload_bytes((2, 118, 64)) == 4 * 2 * 64 + 2 * 118 * 64 // 4
    assert values.payload_bytes((2, 118, 64)) == 4 * 2 * 118 + 2 * 118 * 64 // 4


def test_constants_cost_no_error_that_float16_does_not() -> None:
    for axis in AXES:
        codec = Asymmetric("a", 1, 2, axis)
        for value in (0.0, -0.375, 3.0, 4096.0):
            x = torch.full((1, 2, 3, 5), value)
            assert torch.equal(codec.round_trip(x), x)


def test_a_range_that_no_float32_holds_stays_finite() -> None:
    x = torch.tensor([-3e38, 0.0, 3e38]).view(1, 1, 1, 3)
    for axis in AXES:
        assert bool(torch.isfinite(Asymmetric("a", 1, 2, axis).round_trip(x)).all())


@pytest.mark.parametrize("place", [0, 2])
def test_a_scale_or_zero_point_that_is_none_is_refused(place: int) -> None:
    codec = Asymmetric("a", 1, 2, "token")
    payload = bytearray(codec.encode(torch.ones(1, 1, 8)))
    payload[place : place + 2] = b"\x00\x7c"
    with pytest.raises(CodecError, match="not a positive number"):
        codec.decode(memoryview(bytes(payload)), (1, 1, 8))
