"""Whole caches at once give the bytes, numbers and refusals of each tensor alone."""

import random
from collections.abc import Sequence

import pytest
import torch
from any_layouts import differing
from calibrations import make_calibration
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from c2c.cache import Geometry, KVCache
from c2c.sections import runs_of
from c2c.triton_support import available, interpreted
from latentwire.channel import stacked
from latentwire.channel.asymmetric import Asymmetric
from latentwire.channel.codec import Codec, CodecError, NumbersRefused
from latentwire.channel.device_codec import DeviceCodec, on_device, on_host
from latentwire.channel.kernels.means import Means
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import (
    Header,
    PacketError,
    decode,
    encode,
    encode_batch,
)
from latentwire.channel.payload_order import Group
from latentwire.channel.payload_parts import Floats
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.registry import CODECS, EXAMPLES, NAMES, PER_TENSOR, codec
from latentwire.channel.turbo import MOST_TABLED

GEOMETRY = Geometry(layers=3, kv_heads=2, head_dim=6)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2))
CPU = torch.device("cpu")
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTERPRETED = available() and interpreted()


def random_cache(layout: Layout, batch: int, dtype: torch.dtype, seed: int = 0) -> KVCache:
    """[B, H, T, D] with T of each layer, on DEVICE; some numbers are large."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(layer: int) -> Tensor:
        heads, tokens, head_dim = layout.shape_of(layer)
        x = torch.randn(batch, heads, max(1, tokens), head_dim, generator=generator)
        x[..., 3] *= 40
        return x.to(DEVICE, dtype)

    layers = range(layout.geometry.layers)
    return KVCache(tuple(map(tensor, layers)), tuple(map(tensor, layers)))


def same(ours: KVCache, theirs: KVCache, layout: Layout) -> bool:
    return all(
        torch.equal(tensor_of(ours, *site).cpu(), tensor_of(theirs, *site).cpu())
        for site in layout.sent
    )


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    tokens = draw(st.sets(st.integers(0, 20), min_size=1, max_size=9))
    kinds = draw(st.sampled_from((((0, 2), (1, 2)), ((), (0, 1)), ((2,), ()))))
    return draw(differing(Layout(GEOMETRY, *kinds, runs_of(tokens))))


@pytest.mark.parametrize("name", PER_TENSOR)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_batch_is_its_tensors_one_by_one(name: str, data: st.DataObject) -> None:
    layout, batch = data.draw(layouts()), data.draw(st.integers(1, 3))
    dtype = data.draw(st.sampled_from(DTYPES))
    made, cache = PER_TENSOR[name], random_cache(layout, batch, dtype, data.draw(st.integers(0, 9)))
    payloads = on_host(made.payloads(cache, layout))
    alone = [bytes(made.encode_alone(cache.rows(b, b + 1), layout)) for b in range(batch)]
    assert [row.tobytes() for row in payloads] == alone
    rows = [memoryview(row) for row in payloads]
    arrived = made.caches(on_device(rows, DEVICE), layout, torch.float32)
    direct, lengths = made.round_trip(cache, [layout] * batch)
    assert lengths == [len(row) for row in alone]
    for b, row in enumerate(rows):
        assert same(arrived.rows(b, b + 1), made.decode_alone(row, layout), layout)
    assert same(arrived.map(lambda x: x.to(dtype)), direct, layout)


@pytest.mark.parametrize("name", (*NAMES, *EXAMPLES, "turbo2+zstd"))
def test_packets_of_a_batch_are_those_of_its_examples(name: str) -> None:
    classes = bytes((0, 2, 1, 1, 0)) if name.startswith("tokens") else b""
    runs = (range(2, 5), range(8, 10))
    if "turbo" in name:
        runs = (range(2, 5), range(MOST_TABLED, MOST_TABLED + 2))  # past the positions kept
    layout = Layout(GEOMETRY, (0, 2), (1, 2), runs, classes=classes)
    calibration = CALIBRATION if any(each in name for each in ("turbo", "kvtc", "klt")) else None
    header = Header(codec(name, calibration), b"the pair", layout)
    cache = random_cache(layout, 3, torch.bfloat16)
    packets = encode_batch(cache, header)
    assert packets == [encode(cache.rows(b, b + 1), header) for b in range(3)]
    known = {"calibration": calibration, "device": DEVICE, "dtype": torch.bfloat16}
    _, arrived = decode(packets, GEOMETRY, b"the pair", **known)
    for b, packet in enumerate(packets):
        assert same(
            arrived.rows(b, b + 1), decode(packet, GEOMETRY, b"the pair", **known)[1], layout
        )
    direct, _ = header.codec.round_trip(cache, [layout] * 3)
    assert same(arrived, direct, layout)
    on_the_cpu = "+" in name or name.startswith(("kvtc", "klt", "planes"))
    assert isinstance(header.codec, DeviceCodec) is not on_the_cpu


@pytest.mark.parametrize("name", PER_TENSOR)
def test_hostile_payloads_are_refused_in_the_same_words(name: str) -> None:
    made, generator = PER_TENSOR[name], random.Random(name)
    layout = Layout(GEOMETRY, (0, 2), (1,), (range(5),))
    written = made.encode(random_cache(layout, 1, torch.float32), layout)
    refused = 0
    for turn in range(60):
        payload = bytearray(generator.randbytes(len(written)) if turn % 3 == 0 else written)
        for _ in range(generator.choice((1, 2, 6))):
            payload[generator.randrange(len(payload))] = generator.choice((0, 127, 128, 255, 1))
        data = on_device([memoryview(payload)], DEVICE)
        try:
            alone = made.decode_alone(memoryview(payload), layout)
        except CodecError as error:
            refused += 1
            with pytest.raises(CodecError) as caught:
                made.caches(data, layout, torch.float32)
            assert str(caught.value) == str(error)
        else:
            assert same(made.caches(data, layout, torch.float32), alone, layout)
    assert refused


def test_the_first_tensor_that_cannot_be_sent_is_the_reason() -> None:
    layout = Layout(GEOMETRY, (0, 2), (1,), (range(5),))
    cache = random_cache(layout, 3, torch.float32)
    cache.values[1][2, 0, 0, 0] = torch.nan
    header = Header(codec("fp16"), b"the pair", layout)
    with pytest.raises(PacketError, match="NaN or infinite"):
        encode_batch(cache, header)
    cache.keys[2][1, 0, 0, 0] = 1e9
    with pytest.raises(PacketError, match="too large for fp16"):
        encode_batch(cache, header)
    cache.keys[2][1, 0, 0, 0] = cache.values[1][2, 0, 0, 0] = 0
    packets = encode_batch(cache, header)
    with pytest.raises(PacketError, match="do not have one header"):
        other = Header(codec("bf16"), b"the pair", layout)
        decode([packets[0], *encode_batch(cache, other)], GEOMETRY, b"the pair")


INTEGERS = (
    *("int8", "int4", "int3", "int2", "int8_layer", "int2_layer", "int8_token", "int3_token"),
    *("int4_group", "int2_group"),
)
KIVI = tuple(
    Asymmetric(f"kivi{bits}_{axis}", 220 + bits, bits, axis)
    for bits, axis in ((8, "channel"), (3, "channel"), (4, "token"), (2, "token"))
)
ROTATED = ("rotate1", "rotate1.5", "rotate3", "rotate3.5")
WITH_FLOATS = (*(CODECS[name] for name in (*INTEGERS, "nf4", *ROTATED)), *KIVI)  # as scales
WITH_KERNELS = (*WITH_FLOATS, CODECS["mxfp4"], CODECS["fp16"], CODECS["fp32"])


kernels_run = pytest.mark.skipif(
    not (INTERPRETED or (ON_GPU and available())),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)


def group_of(made: Codec, count: int, start: int = 0) -> Group:
    """So many tensors [2, 5, 64], one behind the other."""
    group = Group(made, (2, 5, 64))
    for place in range(count):
        group.append(("key", place), start + place * group.size)
    return group


def encoded(
    group: Group, x: list[Tensor], place: int = 0, means: Means | None = None
) -> tuple[Tensor, bool]:
    """Payloads uint8 [B, bytes] of rows that lie apart, and whether one may be refused."""
    size = place + len(x) * group.size
    out = torch.zeros(len(x[0]), -(-size // 16) * 16, dtype=torch.uint8, device=DEVICE)
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    stacked.encode(group, x, out[:, place:size], broken, means)
    return out[:, place:size], bool(broken)


def decoded(group: Group, data: Tensor, dtype: torch.dtype) -> tuple[Sequence[Tensor], bool]:
    """The tensors of payloads, and whether one may be refused."""
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    return stacked.decode(group, data, dtype, broken), bool(broken)


def check_reading(group: Group, data: Tensor) -> None:
    """Payloads of one tensor are doubted where their codec refuses them, and read as it reads."""
    for dtype in (torch.float32, torch.float16):
        found, doubt = decoded(group, data, dtype)
        plain, refused = group.codec.decode_all(group.read(data), group.shape, dtype)
        assert doubt == bool(refused)
        assert doubt or torch.equal(found[0], plain[0])


@kernels_run
@pytest.mark.parametrize("place", [0, 4, 3])  # the last is one that kernels cannot write to
@pytest.mark.parametrize("tensors", WITH_KERNELS, ids=lambda made: made.name)
def test_kernels_write_and_read_the_same_bytes(tensors: Codec, place: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(2, 2, 5, 64, generator=generator).to(DEVICE) for _ in range(2)]
    group, plain = group_of(tensors, 2), tensors.encode_all(torch.stack(x))[0]
    data, doubt = encoded(group, x, place)
    assert not doubt
    found = group.read(data)
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(found, plain, strict=True))
    arrived, late = decoded(group, data, torch.float16)
    assert not late
    assert torch.equal(torch.stack([*arrived]), tensors.decode_all(plain, group.shape)[0].half())
    x[1][1, 1, 4, 63] = torch.inf
    assert encoded(group, x, place)[1]
    bad = data.clone()
    scales = group.size + group.lengths[0]
    bad[-1, scales - 2 : scales] = 255
    assert decoded(group, bad, torch.float16)[1]
    if tensors.name.startswith("int"):
        bad = data.clone()
        bad[-1, -1] = 255
        assert decoded(group, bad, torch.float32)[1]


@kernels_run
@pytest.mark.parametrize("tensors", WITH_FLOATS, ids=lambda made: made.name)
@pytest.mark.parametrize(
    "scale", [0.0, -1.0, 2.0**-21, 2.0**-20, 65504.0, 3e37, -torch.inf, torch.nan]
)
def test_kernels_doubt_the_scales_that_the_codec_refuses(tensors: Codec, scale: float) -> None:
    """Where the numbers are small too: a scale is one of the largest number."""
    group = group_of(tensors, 1)
    data, _ = encoded(group, [torch.zeros(1, 2, 5, 64, device=DEVICE)])
    scales = tensors.fields(group.shape)[0]
    assert isinstance(scales, Floats)
    data[:, : group.lengths[0]].view(scales.dtype)[..., -1] = scale
    _, doubt = decoded(group, data, torch.float32)
    assert doubt == bool(tensors.decode_all(group.read(data), group.shape)[1])


@kernels_run
@pytest.mark.parametrize("factor", [0, 1])  # codes that are all zero tell nothing of a scale
def test_kernels_read_each_byte_that_is_a_scale(factor: int) -> None:
    made = CODECS["mxfp4"]
    group = group_of(made, 1)
    x = torch.randn(1, 2, 5, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    data, _ = encoded(group, [factor * x])
    for scale in (0, 1, 127, 240, 250, 251, 252, 253, 254, 255):
        data[:, group.lengths[0] - 1] = scale
        check_reading(group, data)


@kernels_run
@pytest.mark.parametrize("tensors", KIVI, ids=lambda made: made.name)
def test_kernels_doubt_the_zero_points_that_the_codec_refuses(tensors: Codec) -> None:
    group = group_of(tensors, 1)
    x = torch.randn(1, 2, 5, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    data, _ = encoded(group, [x])
    first, second = group.lengths[:2]
    for zero in (torch.nan, torch.inf, -torch.inf, 65504.0, -65504.0, -0.0):
        data[:, first : first + second].view(torch.float16)[..., -1] = zero
        check_reading(group, data)


@kernels_run
@pytest.mark.parametrize("name", ["kivi4", "kivi3"])
def test_packets_by_kernels_of_codecs_that_differ_for_keys_and_values(name: str) -> None:
    geometry = Geometry(layers=2, kv_heads=2, head_dim=64)
    made, layout = PER_TENSOR[name], Layout(geometry, (0, 1), (1,), (range(7),))
    cache = random_cache(layout, 2, torch.float16)
    rows = on_host(made.payloads(cache, layout))
    for b, row in enumerate(rows):
        assert row.tobytes() == bytes(made.encode_alone(cache.rows(b, b + 1), layout))
    arrived = made.caches(on_device([memoryview(row) for row in rows], DEVICE), layout, torch.half)
    assert same(arrived, made.round_trip(cache, [layout] * 2)[0], layout)


@kernels_run
def test_kernels_doubt_what_would_arrive_as_infinity() -> None:
    """A scale that is rounded up, times the largest code."""
    for number in (3.4028234663852886e38, 3.3961775e38, 1e30):
        for name in ("int8", "int4", "int3", "int2", "int8_layer", "int8_token"):
            x = torch.full((1, 2, 5, 64), number, device=DEVICE)
            plain = CODECS[name].encode_all(x[None])[1]
            assert encoded(group_of(CODECS[name], 1), [x])[1] == bool(plain)


@kernels_run
def test_kernels_take_tensors_of_two_types_in_their_order() -> None:
    generator, tensors = torch.Generator().manual_seed(0), CODECS["rotate2"]
    x = [torch.randn(2, 2, 5, 64, generator=generator).to(DEVICE) for _ in range(4)]
    x[0], x[2] = x[0].half(), x[2].half()
    group = group_of(tensors, 4)
    found = group.read(encoded(group, x)[0])
    plain, _ = tensors.encode_all(torch.stack([each.float() for each in x]))
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


@kernels_run
def test_each_of_two_types_has_its_own_means() -> None:
    generator, tensors = torch.Generator().manual_seed(0), CODECS["rotate2"]
    x = [torch.randn(2, 2, 5, 64, generator=generator).to(DEVICE) for _ in range(4)]
    x[0], x[2] = x[0].half(), x[2].half()
    table = torch.randn(3, 2, 7, 64, generator=generator).to(DEVICE)
    at = torch.randint(0, 7, (2, 1, 5), generator=generator)
    means = Means(table, float(table.abs().max()), [-1, 2, 0, 1], [0, 0, 1, 0], at)
    group = group_of(tensors, 4)
    data, _ = encoded(group, x, means=means)
    still = torch.stack([each.float() for each in means.moved(x, torch.sub)])
    plain, _ = tensors.encode_all(still)
    for ours, theirs in zip(group.read(data), plain, strict=True):
        assert torch.equal(ours.cpu(), theirs.cpu())


@pytest.mark.skipif(not (ON_GPU and available()), reason="needs a CUDA device and Triton")
@pytest.mark.parametrize("tensors", WITH_KERNELS, ids=lambda made: made.name)
def test_kernels_take_tensors_that_lie_in_memory_in_several_ways(tensors: Codec) -> None:
    """As where keys are taken from their mean, in float32, and values are a part of a cache."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(4, 2, 2, 9, 64, generator=generator).to(DEVICE, torch.bfloat16)
    x = [whole[0].float()[:, :, :5].contiguous(), *whole[1:3, :, :, :5], whole[3, :, :, 1:6]]
    found = stacked.round_trip(tensors, x)
    for tensor, arrived in zip(x, found, strict=True):
        assert arrived.dtype == tensor.dtype
        assert torch.equal(arrived, tensors.round_trip(tensor))


@pytest.mark.parametrize("lists", [1, 3])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("width", [6, 64])  # kernels take the second
def test_tokens_are_taken_of_each_tensor(lists: int, apart: bool, width: int) -> None:
    """`apart`: tensors that do not lie in memory alike."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 2, 3, 70, width, generator=generator).half().to(DEVICE)
    x = [tensor[:, :, 1:] for tensor in whole]
    if apart:
        x[4] = x[4].contiguous()
    index = torch.randint(0, 69, (lists, 2, 67), generator=generator).to(DEVICE)
    for number, found in enumerate(stacked.take(x, index)):
        own = index[number % lists]
        expected = [tensor[:, own[row]] for row, tensor in enumerate(x[number])]
        assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("width", [6, 64])  # kernels take the second
def test_tokens_are_brought_into_another_order(apart: bool, width: int) -> None:
    """`apart`: tensors that do not lie in memory alike."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(3, 2, 3, 71, width, generator=generator).half().to(DEVICE)
    x = [tensor[:, :, 1:] for tensor in whole]
    if apart:
        x[1] = x[1].contiguous()
    order = torch.randperm(70, generator=generator)
    expected = torch.stack(x)[..., order.to(DEVICE), :]
    assert torch.equal(stacked.reordered(x, order), expected)


@pytest.mark.parametrize("name", ["int8", "rotate2.5", "int2", "kivi4", "alternating"])
def test_what_goes_and_arrives_may_stand_between_other_tokens(name: str) -> None:
    """In one tensor of all that is sent, whatever the codec and its kernels."""
    layout = Layout(Geometry(2, 2, 64), (0, 1), (0, 1), (range(5),))
    finer, coarser = CODECS["int8"], CODECS["int4"]
    alternating = PerTensor("alternating", 9, 6, lambda kind, layer: (finer, coarser)[layer])
    made = alternating if name == "alternating" else PER_TENSOR[name]
    cache = random_cache(layout, 2, torch.float32)
    data = made.payloads(cache, layout)
    expected = made.caches(data, layout, torch.float16)
    sent = torch.randn(4, 2, 2, 9, 64, device=DEVICE)
    sent[..., 2:7, :] = torch.stack([tensor_of(cache, *site) for site in layout.sent])
    whole = torch.full((4, 2, 2, 9, 64), 7.0, dtype=torch.float16, device=DEVICE)
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    again = torch.full_like(data, 165)
    made.write_stack(sent[..., 2:7, :], layout, again, broken)
    assert torch.equal(again, data)
    made.read_stack(data, layout, whole[..., 2:7, :], broken)
    assert not bool(broken)
    for site, tensor in zip(layout.sent, whole, strict=True):
        assert torch.equal(tensor[..., 2:7, :], tensor_of(expected, *site))
    assert bool((whole[..., :2, :] == 7).all()) and bool((whole[..., 7:, :] == 7).all())


def test_a_reason_is_found_where_there_is_one() -> None:
    """Doubt alone refuses nothing."""
    layout = Layout(GEOMETRY, (0,), (), (range(5),))
    made = PER_TENSOR["int8"]
    assert isinstance(made, PerTensor)
    cache = random_cache(layout, 1, torch.float32)
    with pytest.raises(NumbersRefused):
        made.payloads(cache.map(lambda x: x * torch.inf), layout)
    assert bytes(made.encode_alone(cache, layout)) == made.encode(cache, layout)
