"""Transform coding of each layer by itself: what a packet holds, and which calibrations serve."""

from dataclasses import replace

import pytest
import torch
from calibrations import calibration_bytes, make_calibration

from c2c.cache import Geometry, KVCache
from latentwire.channel import rope, transform
from latentwire.channel.calibration import from_bytes
from latentwire.channel.codec import CodecError
from latentwire.channel.header_fields import varint
from latentwire.channel.kvtc import token_vectors
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.registry import codec
from latentwire.errors import LatentWireError

GEOMETRY = Geometry(layers=4, kv_heads=2, head_dim=6)
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2, 3), (range(3, 12),), first_position=2)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2, 3))


def make_cache(layout: Layout = LAYOUT) -> KVCache:
    generator = torch.Generator().manual_seed(0)
    tokens = [layout.tokens_of(layer) for layer in range(4)]
    keys, values = (
        tuple(torch.randn(1, 2, count, 6, generator=generator) for count in tokens)
        for _ in range(2)
    )
    return KVCache(keys, values)


def test_a_packet_holds_a_stream_of_each_tensor() -> None:
    cache, made = make_cache(), codec("klt2.25", CALIBRATION)
    payload = made.encode(cache, LAYOUT)
    arrived = made.decode(memoryview(payload), LAYOUT)
    streams = []
    for kind, layer in LAYOUT.sent:
        x = tensor_of(cache, kind, layer)
        if kind == "key":
            x = rope.undo(x, torch.arange(5, 14), CALIBRATION.inverse_frequencies)
        tables = CALIBRATION.layer_tables[kind, layer, 2.25]
        streams.append(transform.encode(tables, token_vectors(x)))
        back = transform.decode(tables, streams[-1], 9).view(9, 2, 6).transpose(0, 1)
        if kind == "key":
            back = rope.redo(back, torch.arange(5, 14), CALIBRATION.inverse_frequencies)
        assert torch.equal(tensor_of(arrived, kind, layer)[0], back)
    assert payload == b"".join(varint(len(stream)) for stream in streams[:-1]) + b"".join(streams)
    assert bool(arrived.keys[1].isnan().all() and arrived.values[0].isnan().all())


def test_tokens_may_differ_by_layer() -> None:
    by_layer = ((range(3, 5),), (range(3, 12),), (range(4, 5), range(8, 12)), ())
    layout = replace(LAYOUT, by_layer=by_layer)
    cache, made = make_cache(layout), codec("klt2", CALIBRATION)
    payload = made.encode(cache, layout)
    arrived = made.decode(memoryview(payload), layout)
    whole = KVCache(*(tuple(_filled(x, 9) for x in part) for part in (cache.keys, cache.values)))
    batch, lengths = made.round_trip(whole, [layout])
    assert lengths == [len(payload)]
    for kind, layer in layout.sent:
        tokens = layout.tokens_of(layer)
        sent = tensor_of(batch, kind, layer)[:, :, :tokens]
        assert torch.equal(tensor_of(arrived, kind, layer), sent)
    with pytest.raises(CodecError):
        made.decode(memoryview(payload + b"\0"), layout)


@pytest.mark.parametrize("name", ["klt2", "turbo2", "planes2_klt"])
def test_a_batch_is_as_wide_in_each_layer_as_its_longest_row(name: str) -> None:
    """As gathered where whole layers are sent: not all layers have as many tokens as the first."""
    by_layer = ((range(3, 4),), (range(3, 12),), (range(4, 5), range(8, 12)), (range(3, 12),))
    layout = replace(LAYOUT, by_layer=by_layer)
    cache, made = make_cache(layout), codec(name, CALIBRATION)
    batch, lengths = made.round_trip(cache, [layout])
    payload = made.encode(cache, layout)
    assert lengths == [len(payload)]
    arrived = made.decode(memoryview(payload), layout)
    for site in layout.sent:
        assert torch.equal(tensor_of(batch, *site), tensor_of(arrived, *site))


def _filled(x: torch.Tensor, tokens: int) -> torch.Tensor:
    return torch.cat([x, x.new_zeros(1, 2, tokens - x.shape[2], 6)], 2)


def test_a_layer_that_was_not_calibrated_is_refused() -> None:
    made = codec("klt1", CALIBRATION)
    with pytest.raises(CodecError, match="not calibrated for the keys of layer 1"):
        made.encode(make_cache(), replace(LAYOUT, key_layers=(0, 1)))


def test_a_calibration_without_transforms_by_layer_says_so() -> None:
    old = from_bytes(calibration_bytes(GEOMETRY, (0, 2), (1,), by_layer=False), "it")
    old.check_serves("kvtc2")
    with pytest.raises(LatentWireError, match="the calibration is older than klt2: calibrate"):
        old.check_serves("klt2")


def test_every_layer_gets_the_whole_rate_where_all_tokens_together_would_starve_one() -> None:
    """Layer 0 has a hundredth of layer 2's numbers: its error, for its size, is not larger."""
    generator = torch.Generator().manual_seed(1)
    scale = (0.01, 1.0, 1.0, 1.0)
    data = calibration_bytes(GEOMETRY, (0, 2), (1, 2, 3), mean_scale=0.0, scales=scale)
    calibration = from_bytes(data, "it")
    cache = KVCache(
        tuple(scale[n] * torch.randn(1, 2, 9, 6, generator=generator) for n in range(4)),
        make_cache().values,
    )
    lost = []
    for name in ("klt2", "kvtc2"):
        made = codec(name, calibration)
        arrived = made.decode(memoryview(made.encode(cache, LAYOUT)), LAYOUT)
        error = (arrived.keys[0] - cache.keys[0]).square().mean()
        lost.append(float(error / cache.keys[0].square().mean()))
    assert lost[0] < 0.3 < lost[1]
