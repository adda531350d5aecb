from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from c2c.quantize import EPS, dequantize, largest_code, quantize, round_trip

BITS = st.sampled_from([8, 4, 3, 2])
AXIS = st.sampled_from(["head", "layer"])
SHAPES = npst.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=4)


def caches(limit: float = 2.0**100) -> st.SearchStrategy[torch.Tensor]:
    numbers = st.floats(-limit, limit, width=32, allow_nan=False)
    return npst.arrays(np.float32, SHAPES, elements=numbers).map(torch.from_numpy)


@given(caches(), BITS, AXIS)
def test_scale_codes_and_error_follow_the_formula(x: torch.Tensor, bits: int, axis: str) -> None:
    codes, scale = quantize(x, bits, axis)
    limit = largest_code(bits)
    assert codes.dtype == torch.int8
    assert int(codes.abs().max()) <= limit

    heads = x.shape[1] if axis == "head" else 1
    assert scale.shape == (len(x), heads, 1, 1)
    groups = x.flatten(2) if axis == "head" else x.flatten(1)[:, None]
    magnitudes = groups.abs().amax(-1).double()
    expected = torch.maximum(magnitudes / limit, torch.tensor(EPS, dtype=torch.float64))
    torch.testing.assert_close(scale[..., 0, 0].double(), expected, rtol=2e-7, atol=0)

    # Half a step, and what float32 rounds off the division and the product.
    error = (dequantize(codes, scale, torch.float32).double() - x.double()).abs()
    assert bool((error <= scale.double() / 2 + 4e-7 * x.double().abs()).all())


@given(caches(), BITS, AXIS)
def test_what_was_quantized_stays(x: torch.Tensor, bits: int, axis: str) -> None:
    once = round_trip(x, bits, axis)
    torch.testing.assert_close(round_trip(once, bits, axis), once, rtol=1e-6, atol=0)


@given(st.lists(caches(1e4).map(lambda x: x[:1, :2, :3, :2]), min_size=2, max_size=4), BITS, AXIS)
def test_examples_of_a_batch_do_not_share_a_scale(
    examples: list[torch.Tensor], bits: int, axis: str
) -> None:
    shape = [min(e.shape[i] for e in examples) for i in range(4)]
    cut = [e[: shape[0], : shape[1], : shape[2], : shape[3]] for e in examples]
    batch = round_trip(torch.cat(cut), bits, axis)
    assert torch.equal(batch, torch.cat([round_trip(e, bits, axis) for e in cut]))


def test_half_a_step_goes_to_the_even_code() -> None:
    # The scale is exactly 1: the largest magnitude is the largest code.
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5, 7.0]).view(1, 1, 8, 1)
    codes, scale = quantize(x, 4)
    assert scale.item() == 1
    assert codes.flatten().tolist() == [0, 2, 2, 0, -2, -2, 4, 7]


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("axis", ["head", "layer"])
def test_zeros_and_constants(bits: int, axis: str) -> None:
    zeros = torch.zeros(2, 3, 4, 5)
    codes, scale = quantize(zeros, bits, axis)
    assert not codes.any()
    assert torch.equal(scale, torch.full_like(scale, EPS))
    assert torch.equal(round_trip(zeros, bits, axis), zeros)

    constant = torch.full((1, 2, 3, 4), -0.75)
    codes, _ = quantize(constant, bits, axis)
    assert bool((codes == -largest_code(bits)).all())
    torch.testing.assert_close(round_trip(constant, bits, axis), constant, rtol=2e-7, atol=0)


def test_the_axis_says_who_shares_a_scale() -> None:
    x = torch.stack([torch.ones(3, 2), 100 * torch.ones(3, 2)])[None]  # two heads
    assert quantize(x, 8, "head")[1].flatten().tolist() == pytest.approx([1 / 127, 100 / 127])
    assert quantize(x, 8, "layer")[1].flatten().tolist() == pytest.approx([100 / 127])
    by_layer = round_trip(x, 8, "layer")
    assert by_layer[0, 0].flatten().tolist() == pytest.approx([100 / 127] * 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_arithmetic_is_float32_and_rounded_once(dtype: torch.dtype) -> None:
    x = torch.randn(1, 2, 9, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = round_trip(x, 8)
    assert result.dtype == dtype
    codes, scale = quantize(x.float(), 8)
    exact = [
        Fraction(code) * Fraction(scale[0, head].item())
        for head in range(2)
        for code in codes[0, head].flatten().tolist()
    ]
    wanted = torch.tensor([float(value) for value in exact], dtype=torch.float64)
    assert torch.equal(result.flatten(), wanted.float().to(dtype))


def test_there_are_as_many_codes_as_bits_allow() -> None:
    assert [largest_code(bits) for bits in (8, 4, 3, 2)] == [127, 7, 3, 1]
