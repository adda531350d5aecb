"""The rotary embedding is undone as the models apply it."""

import pytest
import torch
from tiny import make_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from latentwire.channel import rope
from latentwire.errors import LatentWireError


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_the_models_own_embedding_is_undone(kind: str) -> None:
    model = make_model(kind)
    frequencies = rope.inverse_frequencies(model)
    attention = model.base_model.layers[0].self_attn
    seen: list[Tensor] = []
    part = attention.k_norm if kind == "qwen3" else attention.k_proj
    part.register_forward_hook(lambda module, given, made: seen.append(made))
    ids = torch.arange(40).view(1, -1) % 7
    with torch.inference_mode():
        cache = model(ids, use_cache=True).past_key_values
    cached = cache.layers[0].keys
    before = seen[0].view(1, 40, cached.shape[1], cached.shape[3]).transpose(1, 2)
    positions = torch.arange(40)
    torch.testing.assert_close(rope.undo(cached, positions, frequencies), before)
    torch.testing.assert_close(rope.redo(before, positions, frequencies), cached)


def test_far_positions_are_as_exact_as_near_ones() -> None:
    frequencies = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    keys = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    far = torch.tensor([10, 100_000, 4_000_000_000])
    again = rope.undo(rope.redo(keys, far, frequencies), far, frequencies)
    torch.testing.assert_close(again, keys, atol=1e-6, rtol=1e-5)


def test_an_embedding_that_is_another_is_refused() -> None:
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        rope_parameters={
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 64,
        },
    )
    with pytest.raises(LatentWireError, match="'yarn' rotates by angles that"):
        rope.inverse_frequencies(LlamaForCausalLM(config))
