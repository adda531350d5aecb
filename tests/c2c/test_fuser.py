import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_fuser, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import Geometry, KVCache
from c2c.fuser import Fuser, LayerSource, last_aligned, new_fuser
from c2c.projector import Projector, ProjectorSize
from c2c.sharer import read

SMALL = ProjectorSize(4, 4, 3, 0.0)


def section(geometry: Geometry, tokens: int, seed: int) -> KVCache:
    generator = torch.Generator().manual_seed(seed)

    def layers() -> tuple[Tensor, ...]:
        shape = (1, geometry.kv_heads, tokens, geometry.head_dim)
        return tuple(torch.randn(shape, generator=generator) for _ in range(geometry.layers))

    return KVCache(layers(), layers())


def open_gates(fuser: Fuser, keys: list[int], values: list[int]) -> Fuser:
    with torch.no_grad():
        for index, projector in enumerate(fuser.projectors):
            assert isinstance(projector, Projector)
            projector.get_parameter("key_gate_logit").fill_(1.0 if index in keys else -1.0)
            projector.get_parameter("value_gate_logit").fill_(1.0 if index in values else -1.0)
    return fuser.requires_grad_(False).eval()


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_last_layers_are_aligned(receiver: int, sharer: int) -> None:
    layers = last_aligned(receiver, sharer)
    assert list(layers) == list(range(receiver))
    assert layers[receiver - 1] == sharer - 1
    for layer in range(1, receiver):
        # Both walk to the front together; the sharer stops at its first.
        assert layers[layer - 1] == max(0, layers[layer] - 1)


def test_the_vectors_maps() -> None:
    assert list(last_aligned(5, 4).values()) == [0, 0, 1, 2, 3]
    assert list(last_aligned(5, 3).values()) == [0, 0, 0, 1, 2]
    assert list(last_aligned(3, 5).values()) == [2, 3, 4]


def test_only_layers_that_an_open_gate_reads_are_named_once() -> None:
    # Map 0 -> 0, 1 -> 0, 2 -> 0, 3 -> 1, 4 -> 2.
    fuser = new_fuser(Geometry(3, 1, 2), Geometry(5, 1, 2), SMALL)
    assert open_gates(fuser, [0, 2, 4], [1]).layers_read("key") == (0, 2)
    assert fuser.layers_read("value") == (0,)
    assert open_gates(fuser, [], [0, 1, 2, 3, 4]).layers_read("key") == ()
    assert fuser.layers_read("value") == (0, 1, 2)


def test_the_map_says_which_projector_serves_which_layer() -> None:
    torch.manual_seed(0)
    sharer, receiver = Geometry(3, 1, 2), Geometry(4, 2, 3)
    projectors = [Projector(sharer, receiver, SMALL) for _ in range(2)]
    layer_map = {3: LayerSource(0, 1), 1: LayerSource(2, 1)}
    fuser = open_gates(Fuser(projectors, layer_map, sharer, receiver), [1], [1])
    assert list(fuser.layer_map) == [1, 3]
    assert fuser.projector(3) is projectors[1]
    assert fuser.layers_read("key") == (0, 2)

    sent, own = section(sharer, 3, seed=1), section(receiver, 3, seed=2)
    fused = fuser(sent, own)
    for layer in (0, 2):  # not mapped
        assert fused.keys[layer] is own.keys[layer]
        assert fused.values[layer] is own.values[layer]
    for layer, source in ((1, 2), (3, 0)):
        wanted = projectors[1]("key", sent.keys[source], own.keys[layer])
        assert torch.equal(fused.keys[layer], wanted)
        wanted = projectors[1]("value", sent.values[source], own.values[layer])
        assert torch.equal(fused.values[layer], wanted)


def test_fusing_works_token_by_token(models: dict[str, PreTrainedModel]) -> None:
    receiver, sharer = models["qwen3"], models["llama"]
    fuser = make_fuser(sharer, receiver)
    ids = token_ids(2, 10)
    sent, own = read(sharer, ids), read(receiver, ids)
    whole = fuser(sent, own)
    for start, stop in ((0, 1), (1, 4), (4, 9)):
        part = fuser(sent.section(start, stop), own.section(start, stop))
        for ours, theirs in zip(part.keys, whole.keys, strict=True):
            torch.testing.assert_close(ours, theirs[:, :, start:stop], rtol=0, atol=1e-5)


@pytest.mark.parametrize("gates", ["open", "mixed", "closed"])
def test_a_closed_gate_leaves_its_tensor_and_an_open_one_does_not(
    gates: str, models: dict[str, PreTrainedModel]
) -> None:
    receiver, sharer = models["qwen2"], models["gemma3"]
    fuser = make_fuser(sharer, receiver, gates=gates)
    ids = token_ids(1, 6)
    own = read(receiver, ids)
    fused = fuser(read(sharer, ids), own)
    for layer in range(own.layers):
        for kind, ours, theirs in (
            ("key", fused.keys, own.keys),
            ("value", fused.values, own.values),
        ):
            assert torch.equal(ours[layer], theirs[layer]) != fuser.projector(layer).is_open(kind)


def test_a_fresh_fuser_starts_closed_and_has_a_projector_a_layer() -> None:
    fuser = new_fuser(Geometry(6, 1, 2), Geometry(4, 1, 2), SMALL).eval()
    assert len(fuser.projectors) == 4
    assert fuser.layer_map == {t: LayerSource(t + 2, t) for t in range(4)}
    assert fuser.layers_read("key") == fuser.layers_read("value") == ()
