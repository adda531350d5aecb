"""What a packet refuses, the path without bytes refuses in the same words; all else is equal."""

import pytest
import torch
from calibrations import make_calibration
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from c2c.cache import Geometry, KVCache
from latentwire.channel.codec import CodecError
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import PacketError
from latentwire.channel.positions import Positions
from latentwire.channel.registry import CODECS, EXAMPLES, NAMES, needs_calibration
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

GEOMETRY = Geometry(layers=3, kv_heads=2, head_dim=6)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2))
LINK = Endpoint(b"the pair", GEOMETRY, (0, 2), (1, 2), CALIBRATION)
ALL = (*NAMES, *EXAMPLES, "turbo2+zstd", "int4/keys:fp16", "fp16+lzma")
WHOLE = Positions.of(range(4))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Numbers at which something ends: float16, bfloat16, float32, and what their scales come to.
EDGES = (
    *(float("nan"), float("inf"), float("-inf"), 65504.0, -65504.0, 65519.0, 65520.0, 1e9),
    *(3.4028234663852886e38, -3.4028234663852886e38, 3.3961775e38, 1e-45, 1e30),
)


def make_cache(row_values: list[tuple[int, float]], dtype: torch.dtype, scale: float) -> KVCache:
    """Rows of 4 tokens; each of `row_values` puts a number at a place of row 1's cache."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 2, 4, 6)
    tensors = [scale * torch.randn(shape, generator=generator) for _ in range(6)]
    each = tensors[0][1].numel()
    for place, value in row_values:
        tensors[place // each % 6][1].view(-1)[place % each] = value
    cast = [tensor.to(dtype) for tensor in tensors]
    return KVCache(tuple(cast[:3]), tuple(cast[3:]))


def by_packet(channel: Channel, cache: KVCache, row: int) -> KVCache | str:
    """What arrives of a row, or why it is refused."""
    own = cache.rows(row, row + 1)
    try:
        packet = LINK.send(channel, own, WHOLE)
        return LINK.receive(packet, 5, own.keys[0].dtype, torch.device("cpu"))[1]
    except PacketError as error:
        return str(error)


def sent(cache: KVCache) -> list[Tensor]:
    return [cache.keys[0], cache.keys[2], cache.values[1], cache.values[2]]


def check(name: str, cache: KVCache) -> dict[int, PacketError]:
    """Both paths refuse the same rows in the same words; of all others they give the same."""
    channel = Channel(name, 1.0, "front", CALIBRATION.hash if needs_calibration(name) else "")
    packets = [by_packet(channel, cache, row) for row in range(3)]
    arrived = LINK.simulate(channel, cache, [WHOLE] * 3, check=False)
    refused = LINK.refusals(channel, cache, [WHOLE] * 3, arrived.doubtful.tolist())
    for row, packet in enumerate(packets):
        if isinstance(packet, str):
            assert str(refused[row]) == packet
            continue
        assert row not in refused
        for ours, theirs in zip(sent(packet), sent(arrived.cache), strict=True):
            assert bool(torch.isfinite(ours).all())
            assert torch.equal(ours[0], theirs[row])
    reasons = [packet for packet in packets if isinstance(packet, str)]
    if reasons:
        with pytest.raises(CodecError) as caught:
            LINK.simulate(channel, cache, [WHOLE] * 3)
        assert str(caught.value) == reasons[0]
        assert isinstance(caught.value, LatentWireError)
    return refused


@pytest.mark.parametrize("name", ALL)
@examples(few=10, many=100)
@given(
    values=st.lists(
        st.tuples(st.integers(0, 6 * 48 - 1), st.sampled_from(EDGES) | st.floats(width=32)),
        max_size=3,
    ),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from((1.0, 1e-6, 300.0, 3e4)),
)
def test_both_paths_refuse_alike_and_else_agree(
    name: str, values: list[tuple[int, float]], dtype: torch.dtype, scale: float
) -> None:
    check(name, make_cache(values, dtype, scale))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_bad_row_is_named_and_the_others_arrive(name: str, value: float) -> None:
    for dtype in DTYPES:
        cache = make_cache([(7, value)], dtype, 1.0)
        refused = check(name, cache)
        assert list(refused) == [1]
        assert "NaN or infinite numbers, which cannot be sent" in str(refused[1])
    # In a layer that is not sent, it troubles nobody; what is not looked at has no dtype.
    assert check(name, make_cache([(48 + 7, value)], torch.float32, 1.0)) == {}


@pytest.mark.parametrize(
    ("name", "dtype", "value", "words"),
    [
        ("fp16", torch.float32, 65520.0, "numbers too large for fp16"),
        ("fp16+zstd", torch.bfloat16, 1e5, "numbers too large for fp16"),
        ("int2/keys:fp16", torch.float32, -1e6, "numbers too large for fp16"),
        ("bf16", torch.float32, 3.4028234663852886e38, "numbers too large for bf16"),
        ("bf16", torch.float16, 65504.0, "numbers too large for float16"),  # 65536 in bf16
        ("int4_token", torch.float16, 65504.0, "numbers too large for float16"),  # the scale
        ("kivi2", torch.float16, 65504.0, ""),
        ("int8_group", torch.float32, 1e9, ""),  # scales of float16 end there, and codes with them
        ("mxfp4", torch.float32, 3.4028234663852886e38, ""),
        ("nf4", torch.float16, 65504.0, ""),
    ],
)
def test_what_is_too_large_is_refused(
    name: str, dtype: torch.dtype, value: float, words: str
) -> None:
    refused = check(name, make_cache([(7, value)], dtype, 1.0))
    assert [words in str(error) for error in refused.values()] == [True] * bool(words)


@pytest.mark.parametrize("name", [n for n in CODECS if n.startswith(("int", "fp8"))])
def test_a_scale_that_rounds_up_to_infinity_is_not_sent(name: str) -> None:
    """Its decoder would refuse it."""
    codec, largest = CODECS[name], torch.finfo(torch.float32).max
    for value in (largest, largest * (1 - 2**-22), largest * (1 - 2**-12)):
        x = torch.full((1, 2, 3), value)
        try:
            payload = codec.encode(x)
        except CodecError as error:
            assert "too large for" in str(error)
            assert not bool(torch.isfinite(codec.round_trip(x[None])).all())
        else:
            decoded = codec.decode(memoryview(payload), (1, 2, 3))
            assert torch.equal(decoded, codec.round_trip(x[None])[0])
