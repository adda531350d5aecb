import struct
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from c2c.quantize import EPS, largest_code, quantize
from latentwire.channel.codec import CodecError
from latentwire.channel.payload_parts import Codes, pack, packed, unpack, unpacked
from latentwire.channel.registry import CODECS
from latentwire.channel.symmetric import Symmetric

BITS = st.integers(1, 8)
SYMMETRIC = [name for name, codec in CODECS.items() if isinstance(codec, Symmetric)]


@given(BITS, st.data())
def test_codes_are_packed_without_gaps_from_the_lowest_bit(bits: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=70))
    together = packed(torch.tensor(codes, dtype=torch.uint8), bits)
    data = pack(np.array(codes, np.uint8), bits)
    assert len(data) == -(-len(codes) * bits // 8) and data == bytes(together.tolist())
    # All the bytes are one number, the first code its lowest bits.
    assert int.from_bytes(data, "little") == sum(c << bits * i for i, c in enumerate(codes))
    found, rest = unpacked(together, bits, len(codes))
    assert found.tolist() == unpack(data, bits, len(codes)).tolist() == codes and not rest.any()


@pytest.mark.parametrize(
    ("bits", "count"), [(7, 9), (6, 3), (5, 1), (4, 1), (4, 7), (3, 5), (3, 1), (2, 3), (2, 1)]
)
def test_padding_must_be_zero(bits: int, count: int) -> None:
    data = bytearray(-(-count * bits // 8))
    assert unpack(bytes(data), bits, count).tolist() == [0] * count
    data[-1] |= 0x80
    assert unpacked(torch.tensor(data, dtype=torch.uint8), bits, count)[1].any()
    with pytest.raises(CodecError, match="bits after the last code are not zero"):
        unpack(bytes(data), bits, count)


@pytest.mark.parametrize("bits", [0, 9])
def test_codes_of_no_or_of_many_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"codes have 1 to 8 bits, not {bits}"):
        Codes((1, 1, 1), bits)


def test_a_payload_by_hand() -> None:
    # Two heads of two tokens by three channels; the scales are 1 and 2.
    x = torch.tensor([[[7.0, -7.0, 0.0], [1.0, 2.0, -3.0]], [[14.0, 2.0, -2.0], [0.0, 4.0, -14.0]]])
    codes = [14, 0, 7, 8, 9, 4, 14, 8, 6, 7, 9, 0]  # code + 7
    pairs = bytes(codes[i] | codes[i + 1] << 4 for i in range(0, 12, 2))
    assert CODECS["int4"].encode(x) == struct.pack("<2f", 1, 2) + pairs
    assert torch.equal(CODECS["int4"].decode(memoryview(CODECS["int4"].encode(x)), (2, 2, 3)), x)
    by_layer = CODECS["int4_layer"].encode(x)
    assert len(by_layer) == 4 + 6
    assert struct.unpack("<f", by_layer[:4]) == (2,)


@pytest.mark.parametrize("name", SYMMETRIC)
@given(
    values=npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.floats(-(2.0**60), 2.0**60, width=32),
    )
)
def test_the_error_is_at_most_half_a_step(name: str, values: np.ndarray) -> None:
    codec = CODECS[name]
    assert isinstance(codec, Symmetric)
    decoded = codec.decode(memoryview(codec.encode(torch.from_numpy(values))), values.shape)
    wide = values.astype(np.float64)
    axes = (1, 2) if codec.axis == "head" else (0, 1, 2)
    largest = np.abs(wide).max(axis=axes, keepdims=True)
    step = np.maximum(largest / largest_code(codec.bits), EPS)
    error = np.abs(decoded.double().numpy() - wide)
    assert (error <= step / 2 + 4e-7 * np.abs(wide)).all()


def test_what_is_decoded_is_code_times_scale_rounded_once() -> None:
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    for name in SYMMETRIC:
        codec = CODECS[name]
        assert isinstance(codec, Symmetric)
        codes, scale = quantize(x[None], codec.bits, codec.axis)
        decoded = codec.decode(memoryview(codec.encode(x)), (2, 5, 4))
        for head in range(2):
            own = Fraction(scale.flatten()[head if codec.axis == "head" else 0].item())
            exact = [float(code * own) for code in codes[0, head].flatten().tolist()]
            wanted = torch.tensor(exact, dtype=torch.float64).float()
            assert torch.equal(decoded[head].flatten(), wanted)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), -0.0, 3e38])
def test_a_scale_that_nobody_sends_is_refused(scale: float) -> None:
    payload = struct.pack("<f", scale) + bytes([254, 0, 127])
    with pytest.raises(CodecError, match="int8 payload has a scale that no finite numbers have"):
        CODECS["int8"].decode(memoryview(payload), (1, 1, 3))


@pytest.mark.parametrize(
    ("name", "codes"), [("int8", b"\xff"), ("int4", b"\x0f"), ("int3", b"\x07"), ("int2", b"\x03")]
)
def test_the_one_code_too_many_is_refused(name: str, codes: bytes) -> None:
    limit = largest_code(CODECS[name].bits)
    payload = struct.pack("<f", 1.0) + codes
    with pytest.raises(CodecError, match=f"{name} payload has a code above {limit}"):
        CODECS[name].decode(memoryview(payload), (1, 1, 1))


def test_sizes_of_known_tensors() -> None:
    shape = (2, 118, 64)
    numbers = 2 * 118 * 64
    assert CODECS["int8"].payload_bytes(shape) == 8 + numbers
    assert CODECS["int4"].payload_bytes(shape) == 8 + numbers // 2
    assert CODECS["int4_layer"].payload_bytes(shape) == 4 + numbers // 2
    assert CODECS["int3"].payload_bytes((1, 1, 3)) == 4 + 2  # nine bits
    assert CODECS["int2"].payload_bytes((1, 1, 5)) == 4 + 2
