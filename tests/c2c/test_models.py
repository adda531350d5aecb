from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from c2c.errors import C2CError
from c2c.models import load_model


def test_a_model_comes_back_frozen_in_eval_mode_and_in_the_dtype_asked_for(
    tmp_path: Path, models: dict[str, PreTrainedModel]
) -> None:
    models["qwen3"].save_pretrained(tmp_path)
    loaded = load_model(tmp_path, torch.float32, "cpu")
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    state, saved = loaded.state_dict(), models["qwen3"].state_dict()
    assert all(torch.equal(state[name], saved[name]) for name in saved)
    assert load_model(tmp_path, torch.bfloat16, "cpu").dtype == torch.bfloat16


def test_pickled_weights_are_not_loaded(tmp_path: Path, models: dict[str, PreTrainedModel]) -> None:
    models["qwen2"].config.save_pretrained(tmp_path)
    torch.save(models["qwen2"].state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(C2CError, match="does not hold a model that can be loaded"):
        load_model(tmp_path, torch.float32, "cpu")


def test_what_is_no_model_is_refused_by_its_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(C2CError, match=f"{folder} does not hold a model"):
            load_model(folder, torch.float32, "cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(C2CError, match="does not hold a model"):
        load_model(tmp_path, torch.float32, "cpu")


def test_truncated_weights_are_refused(tmp_path: Path, models: dict[str, PreTrainedModel]) -> None:
    models["llama"].save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(C2CError, match="does not hold a model"):
        load_model(tmp_path, torch.float32, "cpu")


def test_a_missing_weight_is_named_and_not_made_up(
    tmp_path: Path, models: dict[str, PreTrainedModel]
) -> None:
    models["qwen3"].save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state["model.layers.2.self_attn.k_norm.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(
        C2CError, match=r"weights missing: 1, first model\.layers\.2\.self_attn\.k_norm"
    ):
        load_model(tmp_path, torch.float32, "cpu")


def test_tied_embeddings_do_not_count_as_missing(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path, torch.float32, "cpu")
    assert torch.equal(loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight)


def test_a_model_without_a_plain_cache_is_refused(tmp_path: Path) -> None:
    config = MambaConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=2, conv_kernel=2
    )
    MambaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(C2CError, match="'mamba' has no plain K/V cache"):
        load_model(tmp_path, torch.float32, "cpu")
