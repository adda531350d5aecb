"""An interface's batched form is its definition, whatever is batched with what."""

import pytest
import torch
from other_interfaces import Front
from tiny import make_fuser, make_model, token_ids
from torch import Tensor

from c2c.cache import Geometry, KVCache, concatenate, geometry, to_transformers
from c2c.fuser import Fuser
from c2c.interface import Interface, Tokens
from c2c.receiver import extend
from c2c.sharer import read


def random_cache(shape: Geometry, rows: int, tokens: int, seed: int) -> KVCache:
    generator = torch.Generator().manual_seed(seed)
    size = (rows, shape.kv_heads, tokens, shape.head_dim)

    def layers() -> tuple[Tensor, ...]:
        made = [torch.randn(size, generator=generator) for _ in range(shape.layers)]
        return tuple(tensor.double() for tensor in made)

    return KVCache(layers(), layers())


@pytest.fixture(scope="module")
def fuser() -> Fuser:
    return make_fuser(make_model("qwen2"), make_model("qwen3", layers=5)).double()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("as_any", [False, True])
def test_tokens_of_any_row_and_layer_are_merged_as_each_alone(
    fuser: Fuser, as_any: bool, in_place: bool
) -> None:
    """`as_any`: by what every interface has, not by the fuser's own form."""
    own = random_cache(fuser.receiver, 3, 6, seed=1)
    received = random_cache(fuser.sharer, 3, 6, seed=2)
    slots = concatenate([own, own], dim=0)
    before = slots.map(torch.clone)
    chosen = {layer: [(0, 1), (5, 4), (2, 0), (4, 2)][layer:] for layer in range(3)}

    def sent(layer: int, kind: str) -> tuple[Tensor, Tokens]:
        row, position = (torch.tensor(part) for part in zip(*chosen[layer], strict=True))
        tensor = getattr(received, f"{kind}s")[layer][row % 3, :, position]
        return tensor, Tokens(row if in_place else row % 3, position, row)

    merge = Interface.batched(fuser) if as_any else fuser.batched()
    for layer in range(5):
        merge(layer, slots, slots if in_place else own, sent, 2)
    whole = fuser.merge(received, own)
    for layer in range(5):
        tokens = chosen[fuser.sources[layer]]
        for kind in ("keys", "values"):
            wanted = getattr(before, kind)[layer].clone()
            for row, position in tokens:
                wanted[row, :, position] = getattr(whole, kind)[layer][row % 3, :, position]
            torch.testing.assert_close(getattr(slots, kind)[layer], wanted, rtol=0, atol=1e-9)


def test_what_is_not_read_may_be_anything(fuser: Fuser) -> None:
    own, received = (random_cache(g, 1, 4, 3) for g in (fuser.receiver, fuser.sharer))
    read = {kind: fuser.layers_read(kind) for kind in ("key", "value")}
    assert any(len(layers) < 3 for layers in read.values())

    def only(kind: str, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x if n in read[kind] else x * torch.nan for n, x in enumerate(tensors))

    part = KVCache(only("key", received.keys), only("value", received.values))
    for one, other in zip(
        *(fuser.merge(cache, own).keys for cache in (part, received)), strict=True
    ):
        assert torch.equal(one, other)


def test_what_is_put_in_front_is_followed_by_the_prompt() -> None:
    receiver, sharer = (make_model("qwen3", seed) for seed in (1, 2))
    ids = token_ids(2, 8)
    received = read(sharer, ids)
    front, at = Front(geometry(sharer.config)), torch.arange(7)
    found = front.prefill_behind(receiver, ids, received, at, received.tokens)
    with torch.inference_mode():
        wanted = extend(receiver, to_transformers(front.prepare(received, at)), ids)
    assert float((found.logits - wanted).abs().max()) < 1e-4
    assert found.cache.get_seq_length() == 7 + 8
