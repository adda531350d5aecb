"""Transform coding in a packet: what is turned, in which order, and for which layers."""

import pickle
from dataclasses import replace

import pytest
import torch
from calibrations import make_calibration

from c2c.cache import Geometry, KVCache
from latentwire.channel import lossless, rope, transform
from latentwire.channel.cache_codec import arrived
from latentwire.channel.codec import CodecError
from latentwire.channel.header_fields import varint
from latentwire.channel.kvtc import KVTC, token_vectors
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.registry import codec

GEOMETRY = Geometry(layers=4, kv_heads=2, head_dim=6)
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2, 3), (range(3, 12),), first_position=2)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2, 3))


def make_cache(batch: int = 1) -> KVCache:
    generator = torch.Generator().manual_seed(0)
    keys, values = (
        tuple(torch.randn(batch, 2, 9, 6, generator=generator) for _ in range(4)) for _ in range(2)
    )
    return KVCache(keys, values)


def test_a_tokens_vector_is_all_its_layers_and_heads() -> None:
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    vectors = token_vectors(x)
    assert vectors.shape == (4, 30)
    assert vectors[1, 3 * 5 + 2 * 5 + 4] == x[1, 2, 1, 4]


@pytest.mark.parametrize("rate", ["kvtc0.5", "kvtc3"])
def test_a_packet_holds_what_the_transform_makes_of_unturned_keys(rate: str) -> None:
    cache = make_cache()
    made = codec(rate, CALIBRATION)
    assert isinstance(made, KVTC)
    payload = made.encode(cache, LAYOUT)
    arrived = made.decode(memoryview(payload), LAYOUT)
    positions = torch.arange(5, 14)
    streams = []
    for kind, layers in (("key", (0, 2)), ("value", (1, 2, 3))):
        stacked = torch.stack([tensor_of(cache, kind, layer)[0] for layer in layers])
        if kind == "key":
            stacked = rope.undo(stacked, positions, CALIBRATION.inverse_frequencies)
        tables = CALIBRATION.tables[kind, made.bits]
        streams.append(transform.encode(tables, token_vectors(stacked)))
        back = transform.decode(tables, streams[-1], 9).view(9, len(layers), 2, 6)
        back = back.permute(1, 2, 0, 3)
        if kind == "key":
            back = rope.redo(back, positions, CALIBRATION.inverse_frequencies)
        for place, layer in enumerate(layers):
            assert torch.equal(tensor_of(arrived, kind, layer)[0], back[place])
    assert payload == varint(len(streams[0])) + streams[0] + streams[1]
    assert bool(arrived.keys[1].isnan().all() and arrived.values[0].isnan().all())


@pytest.mark.parametrize(("keys", "values"), [((), (1, 2, 3)), ((0, 2), ()), ((), ())])
def test_only_keys_or_only_values_or_nothing(
    keys: tuple[int, ...], values: tuple[int, ...]
) -> None:
    layout = replace(LAYOUT, key_layers=keys, value_layers=values)
    made = codec("kvtc1", make_calibration(GEOMETRY, keys, values))
    cache = make_cache()
    payload = made.encode(cache, layout)
    assert bool(payload) == bool(keys or values)
    arrived, lengths = made.round_trip(cache, [layout])
    assert lengths == [len(payload)]
    decoded = made.decode(memoryview(payload), layout)
    for site in layout.sent:
        assert torch.equal(tensor_of(decoded, *site), tensor_of(arrived, *site))
    with pytest.raises(CodecError):
        made.decode(memoryview(payload + b"\0"), layout)


@pytest.mark.parametrize("name", ["kvtc0.5", "kvtc3", "klt2", "turbo2+zstd", "int3"])
def test_without_a_stream_the_same_arrives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows that stand elsewhere, the shorter ones filled up."""
    layers = (0, 2), (1, 2, 3)
    runs = [(range(3, 12),), (range(4), range(6, 9)), (range(2, 3),)]
    layouts = [Layout(GEOMETRY, *layers, each, first_position=2) for each in runs]
    made, cache = codec(name, CALIBRATION), make_cache(3).map(lambda x: x.bfloat16())
    for row, layout in enumerate(layouts):
        for x in (*cache.keys, *cache.values):
            x[row, :, layout.tokens :] = x[row, :, layout.tokens - 1, None]
    expected, _ = made.round_trip(cache, layouts)
    monkeypatch.delattr(transform, "encode_codes")
    monkeypatch.delattr(lossless, "compress")
    found = arrived(made, cache, layouts)
    for site in layouts[0].sent:
        for row, layout in enumerate(layouts):
            both = (tensor_of(each, *site)[row, :, : layout.tokens] for each in (found, expected))
            assert torch.equal(*both)
    assert bool(found.keys[1].isnan().all()) and found.keys[0].dtype == torch.bfloat16


def test_without_a_stream_what_is_no_number_stays_none() -> None:
    cache = make_cache(2)
    cache.keys[2][1, 0, 3, 0] = torch.nan
    found = arrived(codec("kvtc1", CALIBRATION), cache, [LAYOUT, LAYOUT])
    assert bool(found.keys[0][0].isfinite().all() and found.keys[0][1, :, 3].isnan().all())


def test_other_layers_than_the_calibrations_are_refused() -> None:
    """As many numbers a token, but they mean something else."""
    made = codec("kvtc1", CALIBRATION)
    other = replace(LAYOUT, key_layers=(0, 1))
    with pytest.raises(CodecError, match=r"calibrated for keys of layers \(0, 2\)"):
        made.encode(make_cache(), other)
    with pytest.raises(CodecError, match=r"not for \(0, 1\)"):
        made.decode(memoryview(made.encode(make_cache(), LAYOUT)), other)


def test_a_stream_that_would_be_longer_than_the_payload_is_refused() -> None:
    made = codec("kvtc2", CALIBRATION)
    payload = made.encode(make_cache(), LAYOUT)
    with pytest.raises(CodecError, match="ends within its streams"):
        made.decode(memoryview(varint(len(payload)) + payload[1:]), LAYOUT)
    with pytest.raises(CodecError, match="ends within its header"):
        made.decode(memoryview(b"\xff"), LAYOUT)


def test_a_stream_that_is_cut_is_refused_or_stands_for_something() -> None:
    """A shorter stream can be that of other numbers; which it is, the packet's checksum knows."""
    made = codec("kvtc2", CALIBRATION)
    payload = made.encode(make_cache(), LAYOUT)
    refused = 0
    for cut in range(len(payload)):
        try:
            arrived = made.decode(memoryview(payload[:cut]), LAYOUT)
        except CodecError:
            refused += 1
        else:
            assert made.encode(arrived, LAYOUT) is not None
            assert bool(torch.isfinite(arrived.keys[0]).all())
    assert refused > len(payload) / 2


def test_a_calibration_that_was_used_can_be_given_to_a_worker() -> None:
    sent = codec("kvtc1", CALIBRATION).encode(make_cache(), LAYOUT)
    again = pickle.loads(pickle.dumps(CALIBRATION))
    assert codec("kvtc1", again).encode(make_cache(), LAYOUT) == sent
