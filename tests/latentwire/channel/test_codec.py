"""What every codec of the registry must do, whatever its method."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from throw_away_codecs import MADE
from torch import Tensor

from latentwire.channel.block_scales import EPS
from latentwire.channel.codec import CodecError, check_finite
from latentwire.channel.registry import CODECS as SHIPPED

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 37))
# Of a Gaussian, by the bits of a code.
LARGEST_ERROR = {32: 0.01, 16: 0.01, 8: 0.1, 7: 0.1, 6: 0.1, 5: 0.2, 4: 0.3, 3: 0.6, 2: 1.0, 1: 1.0}
CODECS = SHIPPED | MADE
codecs = pytest.mark.parametrize("name", CODECS)


@st.composite
def batches(draw: st.DrawFn, limit: float = 2.0**12) -> Tensor:
    """[B, H, T, D]; most of the numbers are one of a few, as shrunk examples are."""
    numbers = st.floats(-limit, limit, width=32)
    return torch.from_numpy(draw(npst.arrays(np.float32, draw(SHAPES), elements=numbers)))


def bits(x: Tensor) -> Tensor:
    """The bits of a float tensor, so that -0.0 and 0.0 are told apart."""
    whole = {4: torch.int32, 2: torch.int16}[x.element_size()]
    return x.contiguous().view(whole)


@codecs
@settings(max_examples=50)
@given(x=batches(), dtype=st.sampled_from(DTYPES))
def test_the_round_trip_is_what_the_bytes_say(name: str, x: Tensor, dtype: torch.dtype) -> None:
    codec, x = CODECS[name], x.to(dtype)
    arrived = codec.round_trip(x)
    assert arrived.dtype == dtype and arrived.shape == x.shape
    shape = (x.shape[1], x.shape[2], x.shape[3])
    for example, expected in zip(x, arrived, strict=True):
        payload = codec.encode(example)
        assert isinstance(payload, bytes)
        assert len(payload) == codec.payload_bytes(shape)
        decoded = codec.decode(memoryview(payload), shape)
        assert decoded.dtype == torch.float32 and decoded.shape == shape
        assert torch.equal(bits(decoded.to(dtype)), bits(expected))


@codecs
def test_a_large_tensor_and_a_view_of_one(name: str) -> None:
    codec = CODECS[name]
    x = torch.randn(2, 2, 118, 64, generator=torch.Generator().manual_seed(0))
    for part in (x, x[:, :, 3:40], x.transpose(1, 2)):
        shape = (part.shape[1], part.shape[2], part.shape[3])
        payload = codec.encode(part[1])
        assert len(payload) == codec.payload_bytes(shape)
        decoded = codec.decode(memoryview(payload), shape)
        assert torch.equal(bits(decoded), bits(codec.round_trip(part)[1].contiguous()))
        # It is a compression of x and not of something else.
        relative = float((decoded - part[1]).norm() / part[1].norm())
        assert relative < LARGEST_ERROR[int(codec.bits)]


@codecs
def test_zeros_stay_zeros_and_constants_stay_close(name: str) -> None:
    codec = CODECS[name]
    zeros = torch.zeros(2, 3, 4, 5)
    largest = 0 if codec.keeps_flat else 4 * EPS
    assert codec.round_trip(zeros).abs().max() <= largest
    assert codec.decode(memoryview(codec.encode(zeros[0])), (3, 4, 5)).abs().max() <= largest
    for value in (0.75, -3.0) if codec.keeps_flat else ():
        constant = torch.full((1, 2, 3, 7), value)
        torch.testing.assert_close(codec.round_trip(constant), constant, rtol=0.05, atol=0)


@codecs
def test_what_else_is_in_the_batch_changes_nothing(name: str) -> None:
    codec = CODECS[name]
    x = torch.randn(5, 2, 7, 6, generator=torch.Generator().manual_seed(1))
    x *= torch.tensor([1.0, 100.0, 0.01, 0.0, 7.0]).view(-1, 1, 1, 1)
    together = codec.round_trip(x)
    for row in range(5):
        assert torch.equal(codec.round_trip(x[row : row + 1]), together[row : row + 1])


@codecs
@settings(max_examples=20)
@given(x=batches(), repeats=st.integers(1, 4))
def test_repeating_the_last_token_changes_nothing_before(
    name: str, x: Tensor, repeats: int
) -> None:
    """So are batches of unequal lengths filled up."""
    tokens = x.shape[2]
    longer = torch.cat([x, x[:, :, -1:].expand(-1, -1, repeats, -1)], dim=2)
    short, long = CODECS[name].round_trip(x), CODECS[name].round_trip(longer)
    assert torch.equal(bits(short), bits(long[:, :, :tokens]))


@codecs
def test_encoding_leaves_its_input_alone(name: str) -> None:
    x = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    before = x.clone()
    CODECS[name].encode(x[0])
    CODECS[name].round_trip(x)
    assert torch.equal(x, before)


@codecs
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 29])
def test_what_is_no_number_is_refused(name: str, value: float, place: int) -> None:
    x = torch.ones(2, 3, 5)
    x.view(-1)[place] = value
    with pytest.raises(CodecError, match="NaN or infinite"):
        CODECS[name].encode(x)
    with pytest.raises(CodecError, match="NaN or infinite"):
        check_finite(x)


@codecs
def test_payloads_that_nobody_wrote_are_refused_or_finite(name: str) -> None:
    codec, shape = CODECS[name], (2, 3, 5)
    generator = random.Random(name)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    written = codec.encode(x)
    for turn in range(400):
        payload = bytearray(generator.randbytes(len(written)) if turn % 2 else written)
        for _ in range(generator.choice((1, 2, 6))):
            payload[generator.randrange(len(payload))] = generator.choice((0, 127, 128, 255, 1))
        try:
            decoded = codec.decode(memoryview(bytes(payload)), shape)
        except CodecError as error:
            assert type(error) is CodecError and str(error)
        else:
            assert decoded.shape == shape
            assert bool(torch.isfinite(decoded).all())
