import struct

import numpy as np
import pytest
import torch

from latentwire.channel.codec import CodecError
from latentwire.channel.registry import CODECS


def test_numbers_lie_in_order_little_endian() -> None:
    x = torch.tensor([[[1.0, -2.0], [0.5, 3.0]], [[4.0, 0.0], [-0.25, 8.0]]])  # [2, 2, 2]
    flat = [1.0, -2.0, 0.5, 3.0, 4.0, 0.0, -0.25, 8.0]
    assert CODECS["fp32"].encode(x) == struct.pack("<8f", *flat)
    assert CODECS["fp16"].encode(x) == struct.pack("<8e", *flat)
    upper_halves = b"".join(struct.pack("<f", value)[2:] for value in flat)
    assert CODECS["bf16"].encode(x) == upper_halves


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)],
)
def test_nothing_is_lost_for_a_model_of_the_same_type(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(1, 2, 9, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    codec = CODECS[name]
    assert torch.equal(codec.round_trip(x), x)
    assert torch.equal(codec.decode(memoryview(codec.encode(x[0])), (2, 9, 8)).to(dtype), x[0])


def test_rounding_is_to_the_nearest() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 50, 4)).astype(np.float32))
    for name, digits in (("bf16", 8), ("fp16", 11)):
        error = (CODECS[name].round_trip(x) - x).abs()
        assert bool((error <= x.abs() * 2.0**-digits + 2.0**-25).all())


def test_what_fp16_cannot_hold_is_refused() -> None:
    x = torch.full((1, 1, 2), 65520.0)
    with pytest.raises(CodecError, match="numbers too large for fp16"):
        CODECS["fp16"].encode(x)
    assert CODECS["bf16"].encode(x)


def test_infinite_payloads_are_refused() -> None:
    for name, infinity in (
        ("fp16", b"\x00\x7c"),
        ("bf16", b"\x80\x7f"),
        ("fp32", b"\x00\x00\x80\x7f"),
        ("fp32", b"\x01\x00\xc0\x7f"),
    ):
        with pytest.raises(CodecError, match=f"{name} payload holds NaN or infinite"):
            CODECS[name].decode(memoryview(infinity), (1, 1, 1))
