from typing import Any

import pytest
import torch
from tiny import ARCHITECTURES, SLIDING_WINDOW, token_ids
from transformers import (
    DynamicCache,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from c2c.cache import (
    Geometry,
    KVCache,
    concatenate,
    from_transformers,
    geometry,
    to_transformers,
)
from c2c.errors import C2CError
from c2c.receiver import extend


def numbered(layers: int, batch: int, tokens: int) -> KVCache:
    """Every number of the cache is another one."""
    shape = (batch, 2, tokens, 3)
    size = batch * 2 * tokens * 3
    tensors = [torch.arange(size).view(shape).float() + size * index for index in range(2 * layers)]
    return KVCache(tuple(tensors[:layers]), tuple(tensors[layers:]))


def equal(first: KVCache, second: KVCache) -> bool:
    pairs = zip((*first.keys, *first.values), (*second.keys, *second.values), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_geometry_of_the_tested_models(models: dict[str, PreTrainedModel]) -> None:
    assert {name: geometry(model.config) for name, model in models.items()} == {
        "qwen2": Geometry(3, 2, 8),
        "qwen3": Geometry(4, 2, 12),
        "llama": Geometry(2, 3, 6),
        "gemma3": Geometry(5, 1, 16),
    }
    assert Geometry(3, 2, 8).width == 16


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_geometry_is_what_the_model_caches(name: str, models: dict[str, PreTrainedModel]) -> None:
    cache = DynamicCache()
    extend(models[name], cache, token_ids(2, 6))
    expected = geometry(models[name].config)
    tensors = from_transformers(cache)
    assert tensors.layers == expected.layers
    assert tensors.tokens == 6
    for tensor in (*tensors.keys, *tensors.values):
        assert tensor.shape == (2, expected.kv_heads, 6, expected.head_dim)


def test_an_explicit_head_dim_wins_and_heads_default_to_all() -> None:
    explicit = Qwen3Config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=128
    )
    assert geometry(explicit).head_dim == 128
    implied = Qwen2Config(hidden_size=896, num_attention_heads=14, num_key_value_heads=2)
    assert (geometry(implied).head_dim, geometry(implied).width) == (64, 128)
    assert geometry(GPT2Config(n_layer=2, n_head=4, n_embd=32)) == Geometry(2, 4, 8)


def test_the_text_part_of_a_larger_config_counts() -> None:
    class Wrapped(PretrainedConfig):
        def get_text_config(self, *arguments: Any, **options: Any) -> LlamaConfig:
            return LlamaConfig(num_hidden_layers=2, hidden_size=12, num_attention_heads=3)

    assert geometry(Wrapped()) == Geometry(2, 3, 4)


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(num_hidden_layers=2),
        PretrainedConfig(num_hidden_layers=2),
        # OpenELM has another number of heads in every layer.
        PretrainedConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=[1, 2]),
        PretrainedConfig(num_hidden_layers=None, hidden_size=8, num_attention_heads=2),
    ],
    ids=["mamba", "no heads", "heads by layer", "no layers"],
)
def test_a_model_without_a_plain_cache_is_refused(config: PretrainedConfig) -> None:
    with pytest.raises(C2CError, match="no plain K/V cache: choose a decoder"):
        geometry(config)
    if config.model_type == "mamba":
        with pytest.raises(C2CError, match="'mamba'"):
            geometry(config)


def test_sections_tokens_and_rows_are_taken_where_they_stand() -> None:
    cache = numbered(layers=2, batch=3, tokens=5)
    section = cache.section(1, 4)
    assert section.tokens == 3
    assert torch.equal(section.values[1], cache.values[1][:, :, 1:4])
    assert section.keys[0].data_ptr() != cache.keys[0].data_ptr()
    section.keys[0][0, 0, 0, 0] = -1  # a view
    assert cache.keys[0][0, 0, 1, 0] == -1

    chosen = cache.at(torch.tensor([4, 0]))
    assert torch.equal(chosen.keys[1], cache.keys[1][:, :, [4, 0]])
    mask = torch.tensor([True, False, True])
    assert equal(cache.pick(mask), cache.pick(torch.tensor([0, 2])))
    assert torch.equal(cache.pick(mask).values[0], cache.values[0][[0, 2]])


def test_parts_join_to_the_whole() -> None:
    cache = numbered(layers=2, batch=3, tokens=5)
    by_tokens = [cache.section(0, 2), cache.section(2, 3), cache.section(3, 5)]
    assert equal(concatenate(by_tokens, dim=2), cache)
    by_rows = [cache.pick(torch.tensor([0])), cache.pick(torch.tensor([1, 2]))]
    assert equal(concatenate(by_rows, dim=0), cache)
    with pytest.raises(ValueError, match="zip"):
        concatenate([cache, numbered(layers=3, batch=3, tokens=5)], dim=2)


def test_a_cache_goes_to_transformers_and_back_and_can_grow(
    models: dict[str, PreTrainedModel],
) -> None:
    cache = numbered(layers=3, batch=1, tokens=4)
    assert equal(from_transformers(to_transformers(cache)), cache)

    # Longer than the sliding window: no position may be dropped.
    ids = token_ids(2, SLIDING_WINDOW + 6)
    for model in models.values():
        whole = DynamicCache()
        logits = extend(model, whole, ids)
        start = DynamicCache()
        extend(model, start, ids[:, :-3])
        grown = to_transformers(from_transformers(start))
        torch.testing.assert_close(extend(model, grown, ids[:, -3:]), logits, rtol=0, atol=2e-5)
        assert from_transformers(grown).tokens == ids.shape[1]
