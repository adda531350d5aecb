"""Streams of a whole batch against those of the host, one by one: bytes, codes and refusals.

The kernels run on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import constriction
import numpy as np
import pytest
import torch
from calibrations import fit, make_calibration
from correlated import correlated
from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.triton_support import available, interpreted
from latentwire.channel import kvtc, stream_batch
from latentwire.channel.codec import CodecError, NumbersRefused
from latentwire.channel.kvtc import KVTC
from latentwire.channel.layout import Layout, example, tensor_of
from latentwire.channel.registry import codec
from latentwire.channel.stream_batch import Block, decode, encode, lengths
from latentwire.channel.transform import (
    MAX_CLIP,
    TOTAL,
    TransformTables,
    decode_codes,
    encode_codes,
    quantize,
)

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
kernels_run = pytest.mark.skipif(
    not available() or not (ON_GPU or interpreted()),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)
GEOMETRY = Geometry(layers=4, kv_heads=2, head_dim=6)
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2, 3), (range(3, 12),), first_position=2)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2, 3))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few streams too, each is coded by a kernel."""
    monkeypatch.setattr(stream_batch, "FEW", 0)


def made(clips: Sequence[int], sizes: Sequence[int], seed: int = 0) -> TransformTables:
    """Tables with skewed random frequencies."""
    draw = np.random.default_rng(seed)
    rows = [
        1 + draw.multinomial(TOTAL - 2 * clip - 1, draw.dirichlet(np.full(2 * clip + 1, 0.3)))
        for clip in clips
    ]
    return TransformTables(
        mean=torch.zeros(sum(sizes)),
        basis=torch.eye(sum(sizes)),
        sizes=torch.tensor(sizes, dtype=torch.int32),
        step=torch.ones(len(clips)),
        pull=torch.zeros(len(clips)),
        clip=torch.tensor(clips, dtype=torch.int32),
        frequencies=torch.from_numpy(np.concatenate(rows).astype(np.int32)),
    )


def random_codes(tables: TransformTables, tokens: int, rows: int) -> Tensor:
    """Codes int16 [B, T, R] all over their ranges."""
    clip = tables.clip.repeat_interleave(tables.sizes.long())
    uniform = torch.rand(rows, tokens, len(clip), generator=torch.Generator().manual_seed(tokens))
    return (((2 * clip + 1) * uniform).floor().minimum(2 * clip) - clip).short()


def alone(tables: TransformTables, codes: Tensor) -> list[bytes]:
    return [encode_codes(tables, row.int()) for row in codes]


# Symbols fewer than, as many as and more than a warp looks at; streams that end within 32 symbols.
TABLES = (
    made([1, 15, 16, 40], [1, 2, 3, 1]),
    made([MAX_CLIP], [1]),
    made([2], [5]),
    fit(torch.full((20, 5), 2.5), 1.0),  # no components at all
)


@kernels_run
def test_streams_and_codes_are_those_of_the_host(few: None) -> None:
    blocks = [Block(each, tokens) for each, tokens in zip(TABLES, (5, 3, 13, 2), strict=True)]
    codes = [random_codes(block.tables, block.tokens, 3) for block in blocks]
    streams = encode(blocks, [each.to(DEVICE) for each in codes])
    assert streams == [alone(block.tables, own) for block, own in zip(blocks, codes, strict=True)]
    found = decode(blocks, streams, DEVICE)
    assert all(
        torch.equal(*pair) for pair in zip([each.cpu() for each in found], codes, strict=True)
    )


@kernels_run
def test_streams_of_no_codes_are_empty(few: None) -> None:
    block = Block(TABLES[-1], 2)
    (streams,) = encode([block], [torch.zeros(3, 2, 0, dtype=torch.int16, device=DEVICE)])
    assert streams == [b""] * 3
    assert decode([block], [streams], DEVICE)[0].shape == (3, 2, 0)
    with pytest.raises(CodecError, match="not one of 2 tokens"):
        decode([block], [[b"", b"\1"]], DEVICE)


@kernels_run
def test_streams_of_likely_codes_are_those_of_the_host(few: None) -> None:
    tables = fit(correlated(200, 7, 0, directions=4321), 1.0)
    codes = torch.stack(
        [quantize(tables, correlated(11, 7, seed, directions=4321)).short() for seed in (1, 2)]
    )
    (streams,) = encode([Block(tables, 11)], [codes.to(DEVICE)])
    assert streams == alone(tables, codes)
    (found,) = decode([Block(tables, 11)], [streams], DEVICE)
    assert torch.equal(found.cpu(), codes)


@kernels_run
def test_a_carry_goes_through_words_that_wait(few: None) -> None:
    """Codes whose interval lies about a long run of one bits, before it and behind it."""
    tables = made([7, 40, 2], [2, 1, 2])
    clip = tables.clip.repeat_interleave(tables.sizes.long())
    edge = []
    for head in range(1, 256, 16):
        for fill in (0x00000000, 0xFFFFFFFF):
            words = np.full(60, fill, dtype=np.uint32)
            words[0] = head << 24 | fill >> 8
            coder = constriction.stream.queue.RangeDecoder(words)
            rows = [
                coder.decode(model, 6 * (span.stop - span.start)).reshape(6, -1)
                for span, model in zip(tables.spans, tables.models, strict=True)
            ]
            edge.append((torch.from_numpy(np.concatenate(rows, 1)) - clip).short())
    codes = torch.stack(edge)
    expected = alone(tables, codes)
    assert sum(data.count(b"\xff") + data.count(b"\0") > 8 for data in expected) > 20
    (streams,) = encode([Block(tables, 6)], [codes.to(DEVICE)])
    assert streams == expected
    (found,) = decode([Block(tables, 6)], [streams], DEVICE)
    assert torch.equal(found.cpu(), codes)


@kernels_run
def test_what_the_host_refuses_is_refused_in_its_words(few: None) -> None:
    tables = fit(correlated(200, 7, 0, directions=4321), 3.0)
    block = Block(tables, 6)
    original = encode_codes(tables, quantize(tables, correlated(6, 7, 1, directions=4321)))
    changed = [original + b"\0", original[:-1], b"", b"\xff" * len(original), bytes(200)]
    for bit in range(0, 8 * len(original), 3):
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(flipped))
    refused = 0
    for data in changed:
        try:
            expected = decode_codes(tables, data, 6)
        except CodecError as error:
            refused += 1
            with pytest.raises(CodecError) as caught:
                decode([block], [[original, data]], DEVICE)
            assert str(caught.value) == str(error)
        else:
            (found,) = decode([block], [[original, data]], DEVICE)
            assert torch.equal(found[1].cpu().int(), expected)
    assert 5 < refused < len(changed)


@kernels_run
@pytest.mark.parametrize("symbols", [1, 2, 3])
def test_a_number_behind_all_symbols_is_refused(symbols: int, few: None) -> None:
    """It has the length and the last zeros of a stream, and stands for none."""
    tables = made([3], [1])
    data = b"\xff" * 8 + bytes(4 * symbols - 4)
    with pytest.raises(CodecError) as expected:
        decode_codes(tables, data, symbols)
    with pytest.raises(CodecError) as caught:
        decode([Block(tables, symbols)], [[data]], DEVICE)
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("clip", [1, 20, MAX_CLIP])
def test_a_codes_stream_lies_between_its_left_ends(clip: int) -> None:
    """As constriction has it, whatever the formula."""
    tables = made([clip], [1])
    left = tables.left_ends.tolist()
    assert (left[0], left[-1], len(left)) == (0, 1 << 24, 2 * clip + 2)
    for code in range(-clip, clip + 1):
        data = encode_codes(tables, torch.tensor([[code]], dtype=torch.int32))
        point = int.from_bytes(data.ljust(8, b"\0"), "big") / ((1 << 64) - 1) * (1 << 24)
        assert left[code + clip] <= point + 1e-4 and point < left[code + clip + 1]


@kernels_run
def test_lengths_are_those_of_the_streams_of_each_rows_own_tokens(few: None) -> None:
    """Whatever stands behind them."""
    counts = torch.tensor([[25, 0, 12], [3, 1, 3], [13, 7, 8], [2, 2, 0]])
    most = counts.amax(1).tolist()
    codes = [random_codes(each, longest, 3) for each, longest in zip(TABLES, most, strict=True)]
    found = lengths(TABLES, [each.to(DEVICE) for each in codes], counts.to(DEVICE))
    for tables, own, row, told in zip(TABLES, codes, counts.tolist(), found.tolist(), strict=True):
        sent = [of[:count].int() for of, count in zip(own, row, strict=True)]
        assert told == [len(encode_codes(tables, each)) if len(each) else 0 for each in sent]


def make_cache(layout: Layout, rows: int = 3) -> KVCache:
    generator = torch.Generator().manual_seed(0)
    counts = [layout.tokens_of(layer) for layer in range(4)]
    keys, values = (
        tuple(torch.randn(rows, 2, tokens, 6, generator=generator) for tokens in counts)
        for _ in range(2)
    )
    return KVCache(keys, values)


BY_LAYER = Layout(
    *(GEOMETRY, (0, 2), (1, 2, 3), (range(3, 12),)),
    by_layer=((range(3, 5),), (range(3, 12),), (range(4, 5), range(8, 12)), ()),
)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("kvtc0.5", LAYOUT), ("kvtc3", LAYOUT), ("klt2", LAYOUT), ("klt2", BY_LAYER)],
)
def test_what_a_device_codes_is_what_the_host_does(name: str, layout: Layout) -> None:
    """Payloads to the byte: no number of these lies where two codes meet."""
    transform_codec, cache = codec(name, CALIBRATION), make_cache(layout)
    assert isinstance(transform_codec, KVTC)
    payloads = [transform_codec.encode(cache.rows(row, row + 1), layout) for row in range(3)]
    there = cache.map(lambda x: x.to(DEVICE))
    assert transform_codec.encode_there(there, layout) == payloads
    views = [memoryview(each) for each in payloads]
    found = transform_codec.decode_there(views, layout, DEVICE)
    expected = transform_codec.decode_batch(views, layout, torch.device("cpu"))
    for site in layout.sent:
        one, other = tensor_of(found, *site).cpu(), tensor_of(expected, *site)
        assert bool(((one - other).abs() <= 2.0**-22 * other.abs().max()).all())
    assert bool(found.keys[1].isnan().all() and found.values[0].isnan().all())


RUNS = [(range(3, 12),), (range(4), range(6, 9)), (range(2, 3),), (range(1, 9),)]
BY_LAYERS = [
    BY_LAYER.by_layer,
    ((range(2),), (range(3, 5),), (), (range(3, 12),)),
    ((), (range(4),), (range(6, 9),), (range(1, 2),)),
    ((range(1, 9),),) * 4,
]
ALL = [Layout(GEOMETRY, (0, 2), (1, 2, 3), runs, first_position=2) for runs in RUNS]
DIFFERING = [Layout(GEOMETRY, (0, 2), (1, 2, 3), (range(12),), by_layer=each) for each in BY_LAYERS]


@pytest.mark.parametrize("name", ["kvtc0.5", "kvtc3", "klt2", "klt2 by layer"])
@pytest.mark.parametrize("sent", ["both", "keys", "values"])
def test_a_round_trip_on_a_device_is_that_of_each_rows_packet(name: str, sent: str) -> None:
    """Of rows of different tokens, filled up; one holds a NaN in some block."""
    name, _, differ = name.partition(" ")
    layers = {
        "key_layers": () if sent == "values" else (0, 2),
        "value_layers": () if sent == "keys" else (1, 2, 3),
    }
    layouts = [replace(each, **layers) for each in (DIFFERING if differ else ALL)]
    known = make_calibration(GEOMETRY, layers["key_layers"], layers["value_layers"])
    made = codec(name, known)
    assert isinstance(made, KVTC)
    cache = filled(layouts)
    broken = ("key", 2) if layers["key_layers"] else ("value", 3)
    tensor_of(cache, *broken)[3, 1, 0, 2] = torch.nan
    found, counts = made.round_trip_there(cache.map(lambda x: x.to(DEVICE)), layouts)
    for row, layout in enumerate(layouts):
        own = example(cache, row, layout)
        if row < 3:
            (payload,) = made.encode_batch(own, layout)
            assert counts[row] == len(payload)
            expected = made.decode(memoryview(payload), layout)
        else:
            expected, (length,) = made.round_trip(cache.rows(3, 4), [layout])
            assert counts[row] == length
        for site in layout.sent:
            tokens = layout.tokens_of(site[1])
            one = tensor_of(found, *site)[row, :, :tokens].cpu()
            other = tensor_of(expected, *site)[0, :, :tokens]
            near = (one - other).abs() <= 2.0**-22 * other.abs().max()
            assert bool((near | (one.isnan() & other.isnan())).all())
            none = row == 3 and site in next(b for b in made.blocks(layout) if broken in b)
            assert bool(one.isnan().any()) == none


def test_a_batch_in_parts_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made, cache = codec("kvtc1", CALIBRATION), filled(ALL).map(lambda x: x.to(DEVICE))
    assert isinstance(made, KVTC)
    whole, counts = made.round_trip_there(cache, ALL)
    monkeypatch.setattr(kvtc, "AT_ONCE", 3 * 9 * 24)  # of K three rows, of V two
    found, again = made.round_trip_there(cache, ALL)
    assert [*again] == [*counts] and 0 not in again
    for site in ALL[0].sites:
        one, other = tensor_of(found, *site), tensor_of(whole, *site)
        assert bool(((one - other).abs() <= 2.0**-22 * other.abs().max()).all())


def test_nobody_waits_for_a_device_who_does_not_look_at_lengths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = []

    def on_host(values: Tensor) -> Callable[[], Tensor]:
        return lambda: waited.append(True) or values.cpu()

    monkeypatch.setattr(kvtc, "on_host", on_host)
    made, cache = codec("klt2", CALIBRATION), filled(ALL).map(lambda x: x.to(DEVICE))
    assert isinstance(made, KVTC)
    _, counts = made.round_trip_there(cache, ALL)
    assert len(counts) == 4 and not waited
    assert counts[0] > counts[2] and counts[:2] == [*counts][:2] and len(waited) == 1


def test_a_round_trip_on_a_device_of_nothing_is_empty() -> None:
    layout = Layout(GEOMETRY, (), (), (range(3, 12),))
    made = codec("kvtc1", make_calibration(GEOMETRY, (), ()))
    assert isinstance(made, KVTC)
    found, counts = made.round_trip_there(make_cache(layout), [layout] * 3)
    assert [*counts] == [0] * 3 and bool(found.keys[0].isnan().all())


def filled(layouts: Sequence[Layout]) -> KVCache:
    """Random numbers of a batch, its rows filled up as those that an engine gathers: by a layer's
    last token, to the longest of all layers."""
    generator = torch.Generator().manual_seed(0)
    most = max(count for layout in layouts for count in layout.counts)
    shape = (len(layouts), 2, most, 6)

    def tensor(layer: int) -> Tensor:
        x = torch.randn(shape, generator=generator)
        for row, layout in enumerate(layouts):
            count = max(layout.tokens_of(layer), 1)
            x[row, :, count:] = x[row, :, count - 1, None]
        return x

    return KVCache(tuple(map(tensor, range(4))), tuple(map(tensor, range(4))))


def test_a_device_refuses_what_the_host_does() -> None:
    transform_codec, cache = codec("kvtc1", CALIBRATION), make_cache(LAYOUT)
    assert isinstance(transform_codec, KVTC)
    payload = transform_codec.encode(cache, LAYOUT)
    for bad in (payload + b"\0", payload[:-1], b"\xff", b""):
        with pytest.raises(CodecError) as expected:
            transform_codec.decode(memoryview(bad), LAYOUT)
        with pytest.raises(CodecError) as caught:
            transform_codec.decode_there([memoryview(payload), memoryview(bad)], LAYOUT, DEVICE)
        assert str(caught.value) == str(expected.value)
    cache.values[3][1, 0, 2, 4] = torch.inf
    with pytest.raises(NumbersRefused, match="NaN or infinite"):
        transform_codec.encode_there(cache.map(lambda x: x.to(DEVICE)), LAYOUT)


def test_where_nothing_is_sent_a_device_sends_nothing() -> None:
    layout = Layout(GEOMETRY, (), (), (range(3, 12),))
    transform_codec = codec("kvtc1", make_calibration(GEOMETRY, (), ()))
    assert isinstance(transform_codec, KVTC)
    assert transform_codec.encode_there(make_cache(layout), layout) == [b""] * 3
    found = transform_codec.decode_there([memoryview(b"")] * 3, layout, DEVICE)
    assert found.keys[0].shape == (3, 2, 9, 6) and bool(found.keys[0].isnan().all())
