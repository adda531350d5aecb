"""Rotary embedding against transformers' own."""

from typing import Any

import pytest
import torch
from tiny import make_model
from torch import Tensor
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from latentwire.channel.rope import inverse_frequencies, redo, undo
from latentwire.errors import LatentWireError

POSITIONS = torch.tensor([0, 1, 2, 5, 17, 63])


def rotated(model: PreTrainedModel, keys: Tensor) -> Tensor:
    """Keys [B, H, T, D] as the model's own code caches them."""
    cos, sin = model.model.rotary_emb(keys, POSITIONS.expand(len(keys), -1))
    return apply_rotary_pos_emb(keys, keys, cos, sin)[1]


def qwen3(**rope: Any) -> PreTrainedModel:
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 1e4, **rope},
    )
    return Qwen3ForCausalLM(config)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_it_takes_off_what_the_model_puts_on(architecture: str) -> None:
    model = make_model(architecture)
    inv_freq = inverse_frequencies(model)
    head_dim = 2 * len(inv_freq)
    keys = torch.randn(2, 3, 6, head_dim, generator=torch.Generator().manual_seed(1))
    cached = rotated(model, keys)
    assert not torch.allclose(cached, keys, atol=0.1)
    found = undo(cached, POSITIONS, inv_freq)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, keys, atol=1e-5, rtol=0)
    torch.testing.assert_close(redo(keys, POSITIONS, inv_freq), cached, atol=1e-5, rtol=0)


def test_a_models_cache_is_its_unrotated_keys_rotated() -> None:
    """A token's first-layer key without its position is the same wherever the token stands."""
    model = make_model("qwen2")
    output = model(torch.full((1, 9), 7), use_cache=True)
    keys = output.past_key_values.layers[0].keys
    found = undo(keys, torch.arange(9), inverse_frequencies(model))
    assert not torch.allclose(keys[:, :, 8], keys[:, :, 0], atol=1e-2)
    torch.testing.assert_close(found, found[:, :, :1].expand_as(found), atol=1e-5, rtol=0)


def test_redo_inverts_undo_at_any_position() -> None:
    inv_freq = 1e6 ** -(torch.arange(16) / 16)
    positions = torch.tensor([0, 1, 4000, 131_071, 10**6])
    keys = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2)) * 50
    found = redo(undo(keys, positions, inv_freq), positions, inv_freq)
    torch.testing.assert_close(found, keys, atol=2e-5, rtol=1e-6)
    batch = undo(keys[None], positions, inv_freq)
    assert torch.equal(batch[0], undo(keys, positions, inv_freq))


@pytest.mark.parametrize(
    ("shape", "positions"), [((2, 5, 30), 5), ((2, 5, 32), 4), ((2, 5, 32), 1), ((5, 34), 5)]
)
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...], positions: int) -> None:
    with pytest.raises(ValueError, match="do not go with"):
        undo(torch.zeros(shape), torch.arange(positions), torch.ones(16))


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_frequencies_are_the_models(architecture: str) -> None:
    model = make_model(architecture)
    inv_freq = inverse_frequencies(model)
    theta = model.config.rope_parameters["rope_theta"]
    half = len(inv_freq)
    torch.testing.assert_close(inv_freq, theta ** -(torch.arange(half) / half))


def test_scaled_frequencies_are_fine_where_lengths_do_not_matter() -> None:
    plain, slower = qwen3(rope_type="default"), qwen3(rope_type="linear", factor=4.0)
    torch.testing.assert_close(inverse_frequencies(slower), inverse_frequencies(plain) / 4)


def test_models_whose_rotation_cannot_be_taken_off_are_refused() -> None:
    with pytest.raises(LatentWireError, match="each kind of layer"):
        inverse_frequencies(make_model("gemma3"))
    with pytest.raises(LatentWireError, match="depend on the prompt's length"):
        inverse_frequencies(qwen3(rope_type="dynamic", factor=2.0))
    model = qwen3(rope_type="default")
    model.model.rotary_emb.attention_scaling = 1.25
    with pytest.raises(LatentWireError, match=r"scales keys .*by 1\.25"):
        inverse_frequencies(model)
    model = qwen3(rope_type="default")
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq[:2]
    with pytest.raises(LatentWireError, match="4 of a key's 8"):
        inverse_frequencies(model)
    del model.model.rotary_emb
    with pytest.raises(LatentWireError, match="no rotary embedding"):
        inverse_frequencies(model)
