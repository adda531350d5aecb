"""The mean that `turbo` takes from keys, at every position, and what it does without one."""

import pytest
import torch
from calibrations import make_calibration

from c2c.cache import Geometry, KVCache
from latentwire.channel import rope
from latentwire.channel.cache_codec import CacheCodec
from latentwire.channel.codec import CodecError
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, PacketError, decode, decode_header, encode
from latentwire.channel.registry import codec

GEOMETRY = Geometry(layers=2, kv_heads=2, head_dim=64)
LAYOUT = Layout(GEOMETRY, (0, 1), (1,), (range(5, 45),), first_position=7)
CALIBRATION = make_calibration(GEOMETRY, (0, 1), (1,), mean_scale=90.0)


def biased_cache() -> KVCache:
    """Keys around the calibration's mean, turned to their positions."""
    generator = torch.Generator().manual_seed(0)
    still = CALIBRATION.key_mean[:, :, None].expand(-1, -1, 40, -1)
    turned = rope.redo(still, LAYOUT.positions(), CALIBRATION.inverse_frequencies)
    keys = tuple((layer + torch.randn(2, 40, 64, generator=generator))[None] for layer in turned)
    return KVCache(keys, tuple(torch.randn(1, 2, 40, 64, generator=generator) for _ in range(2)))


def test_a_bias_in_the_keys_costs_nothing_whatever_the_position() -> None:
    cache = biased_cache()

    def error(made: CacheCodec) -> float:
        arrived = made.decode(memoryview(made.encode(cache, LAYOUT)), LAYOUT)
        return float((arrived.keys[0] - cache.keys[0]).square().mean())

    assert error(codec("turbo3", CALIBRATION)) < 0.04  # what 3 bits cost a standard normal number
    assert error(codec("rotate3")) > 10


def test_values_are_coded_as_without_a_mean() -> None:
    cache = biased_cache()
    ours = codec("turbo2", CALIBRATION).round_trip(cache, [LAYOUT])[0].values[1]
    assert torch.equal(ours, codec("rotate2").round_trip(cache, [LAYOUT])[0].values[1])


def test_packets_name_their_calibration() -> None:
    cache, identity = biased_cache(), bytes(8)
    data = encode(cache, Header(codec("turbo2", CALIBRATION), identity, LAYOUT))
    assert CALIBRATION.digest in data
    decode(data, GEOMETRY, identity, calibration=CALIBRATION)
    other = make_calibration(GEOMETRY, (0, 1), (1,), mean_scale=89.0)
    with pytest.raises(PacketError, match=f"{CALIBRATION.digest.hex()}, this end has"):
        decode(data, GEOMETRY, identity, calibration=other)
    # Without any, the header can still be read, and no number is made up.
    assert decode_header(data)[0].layout == LAYOUT
    with pytest.raises(PacketError, match="turbo2 needs the calibration that it was coded with"):
        decode(data, GEOMETRY, identity)
    with pytest.raises(CodecError, match="needs the calibration"):
        codec("turbo2").encode(cache, LAYOUT)
