"""Tensors that are coded together stand in a payload as if joined one by one."""

import pytest
import torch
from any_layouts import differing
from hypothesis import given, settings
from hypothesis import strategies as st

from c2c.cache import Geometry, KVCache
from latentwire.channel.codec import CodecError
from latentwire.channel.device_codec import DeviceCodec
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.payload_order import Group, copy_bytes
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.registry import codec

GEOMETRY = Geometry(layers=4, kv_heads=2, head_dim=8)
LAYERS = tuple(range(GEOMETRY.layers))
LAYOUT = Layout(GEOMETRY, LAYERS, LAYERS, (range(3),))
NAMES = ("bf16", "int8", "int3", "kivi2", "rotate1.5", "int4/1:bf16/values2-3:int8")


def made(name: str, layout: Layout) -> PerTensor:
    found = codec(name)
    own = found if isinstance(found, PerTensor) else found._at(layout)  # type: ignore[attr-defined]
    assert isinstance(own, PerTensor)
    return own


def random_cache(layout: Layout, batch: int) -> KVCache:
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, *layout.shape_of(layer)) for layer in LAYERS]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes * 2]
    return KVCache(tuple(tensors[: len(LAYERS)]), tuple(tensors[len(LAYERS) :]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_rows_that_lie_apart_are_written_and_read(name: str, data: st.DataObject) -> None:
    kept = tuple(sorted(data.draw(st.sets(st.sampled_from(LAYERS), min_size=1))))
    layout = data.draw(differing(Layout(GEOMETRY, kept, LAYERS, (range(3), range(5, 8)))))
    each, batch = made(name, layout), data.draw(st.integers(1, 3))
    cache, length = random_cache(layout, batch), each.payload_bytes(layout)
    front, behind = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))
    room = torch.full((batch, front + length + behind), 165, dtype=torch.uint8)
    broken = torch.zeros(1, dtype=torch.int32)
    each.write(cache, layout, room[:, front : front + length], broken)
    alone = torch.stack([torch.frombuffer(each.encode_alone(cache.rows(b, b + 1), layout),
                                          dtype=torch.uint8) for b in range(batch)])  # fmt: skip
    assert torch.equal(room[:, front : front + length], alone)
    assert bool((room[:, :front] == 165).all() and (room[:, front + length :] == 165).all())
    found = each.read(room[:, front : front + length], layout, torch.float32, broken)
    assert not broken
    for b, row in enumerate(alone):
        one = each.decode_alone(memoryview(row.numpy()), layout)
        for site in layout.sent:
            assert torch.equal(tensor_of(found, *site)[b : b + 1], tensor_of(one, *site))


def test_one_codec_takes_one_copy_a_field() -> None:
    def stretches(name: str) -> list[int]:
        return [len(group.stretches) for group in made(name, LAYOUT)._groups(LAYOUT)]

    assert stretches("int8") == [1]
    assert stretches("kivi4") == [1, 1]
    assert stretches("int4/1:bf16") == [3, 2]  # 0, 2-3 and again 0 behind the keys; 1 of each kind
    group = made("int8", LAYOUT)._groups(LAYOUT)[0]
    assert isinstance(group, Group) and group.sites == list(LAYOUT.sent)


@pytest.mark.parametrize("length", [1, 2, 4, 6, 16])
@pytest.mark.parametrize("place", [0, 1, 2, 8])
def test_bytes_are_copied_by_words_of_any_width(length: int, place: int) -> None:
    source = torch.arange(3 * 40, dtype=torch.uint8).view(3, 40)[:, place : place + length]
    into = torch.zeros(3, 32, dtype=torch.uint8)
    copy_bytes(source, into[:, 8 : 8 + length])
    assert torch.equal(into[:, 8 : 8 + length], source)
    assert not into[:, :8].any() and not into[:, 8 + length :].any()


def test_a_doubt_names_its_reason_afterwards() -> None:
    """`write` waits for nothing and refuses nothing; the same numbers one by one say why."""
    cache = random_cache(LAYOUT, 2)
    cache.values[3][1, 0, 0, 0] = torch.inf
    each = codec("kivi4")
    assert isinstance(each, DeviceCodec)
    out = torch.empty(2, each.payload_bytes(LAYOUT), dtype=torch.uint8)
    broken = torch.zeros(1, dtype=torch.int32)
    each.write(cache, LAYOUT, out, broken)
    assert bool(broken)
    with pytest.raises(CodecError, match="NaN or infinite"):
        each.written_alone(cache, LAYOUT)
