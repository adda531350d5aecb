"""The mean that `turbo` takes from keys, at every position, and what it does without one."""

from dataclasses import replace

import pytest
import torch
from calibrations import make_calibration
from torch import Tensor

from c2c.cache import Geometry, KVCache
from latentwire.channel import rope
from latentwire.channel.cache_codec import CacheCodec
from latentwire.channel.codec import CodecError
from latentwire.channel.device_codec import on_host
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import Header, PacketError, decode, decode_header, encode
from latentwire.channel.registry import codec
from latentwire.channel.rotation import Rotation
from latentwire.channel.turbo import MOST_TABLED, Turbo

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


RUNS = (range(5, 8), range(20, 22))
LAYERS = ((range(5, 7), range(20, 21)), (range(6, 7), range(20, 22)))  # as many of either
LAYOUTS = {
    "alike": replace(LAYOUT, runs=RUNS),
    "by layer": replace(LAYOUT, runs=RUNS, by_layer=LAYERS),
    "one more": replace(LAYOUT, runs=RUNS, by_layer=(RUNS, LAYERS[1])),
    "far away": replace(LAYOUT, runs=RUNS, first_position=MOST_TABLED),
    "no keys": replace(LAYOUT, runs=RUNS, key_layers=()),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("bits", [2, 2.5])
def test_it_is_the_rotation_of_what_keys_are_without_their_mean(
    layout: Layout, bits: float
) -> None:
    """Bytes and numbers, each computed by the formula; by kernels where there are some."""
    made, alone = codec(f"turbo{bits:g}", CALIBRATION), Rotation("alone", 200, bits)
    assert isinstance(made, Turbo)
    generator = torch.Generator().manual_seed(1)

    def tensor(layer: int) -> Tensor:
        heads, tokens, head_dim = layout.shape_of(layer)
        x = 90 * torch.randn(2, heads, tokens, head_dim, generator=generator)
        return x.to(DEVICE, torch.bfloat16)

    cache = KVCache(*(tuple(map(tensor, range(2))) for _ in range(2)))
    still = CALIBRATION.key_mean[:, :, None]
    payloads, arrived = [b"", b""], {}
    for kind, layer in layout.sent:
        x, at = tensor_of(cache, kind, layer).float().cpu(), layout.positions(layer)
        own = still[layer].expand(-1, len(at), -1)
        mean = rope.redo(own, at, CALIBRATION.inverse_frequencies) if kind == "key" else None
        x = x if mean is None else x - mean
        for row, each in enumerate(x):
            payloads[row] += alone.encode(each)
        arrived[kind, layer] = alone.round_trip(x) + (0 if mean is None else mean)
    data = made.payloads(cache, layout)
    assert [row.tobytes() for row in on_host(data)] == payloads
    assert [row.tobytes() for row in on_host(made.written_alone(cache, layout))] == payloads
    for dtype in (torch.float32, torch.float16):
        found = made.caches(data, layout, dtype)
        for site in layout.sent:
            assert torch.equal(tensor_of(found, *site).cpu(), arrived[site].to(dtype))
    direct, _ = made.round_trip(cache, [layout, layout])
    for site in layout.sent:
        assert torch.equal(tensor_of(direct, *site).cpu(), arrived[site].to(torch.bfloat16))
    loud = made.payloads(cache.map(lambda x: x.float() * 300), layout)
    made.caches(loud, layout, torch.bfloat16 if DEVICE.type == "cuda" else torch.float32)
    with pytest.raises(CodecError, match="too large for float16"):
        made.caches(loud, layout, torch.float16)


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
