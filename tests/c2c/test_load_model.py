import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from c2c.errors import C2CError
from c2c.load_model import load_model, longest_text, read_config, shortest_window


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


def config_of(folder: Path, model: PreTrainedModel, **values: Any) -> Path:
    """A folder with a model's configuration, changed, and its weights."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    "quantized",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
        {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"load_in_8bit": True},
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}},
        {"quant_method": "hqq"},
        {"quant_method": "quanto", "weights": "int8"},
        {"quant_method": "torchao", "quant_type": "int4_weight_only"},
        {"quant_method": "aqlm"},
        {"quant_method": "eetq"},
        {"quant_method": "method-of-tomorrow"},
        {"bits": 4},
    ],
    ids=lambda content: content.get("quant_method", "unnamed"),
)
def test_quantized_weights_without_their_library_are_refused_by_the_config(
    tmp_path: Path, models: dict[str, PreTrainedModel], quantized: dict[str, Any]
) -> None:
    folder = config_of(tmp_path, models["qwen2"], quantization_config=quantized)
    for look in (read_config, lambda path: load_model(path, torch.float32, "cpu")):
        with pytest.raises(C2CError, match=f"{folder}: its weights are quantized") as error:
            look(folder)
        assert "\n" not in str(error.value) and "; take the checkpoint" in str(error.value)


@pytest.mark.parametrize(
    "asked",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flash_attention_3"},
        {"_attn_implementation_internal": "paged|sdpa"},
        {"attn_implementation": "somebody/kernels"},  # which would be fetched and run
    ],
    ids=str,
)
def test_attention_is_ours_whatever_the_config_asks_for(
    tmp_path: Path, models: dict[str, PreTrainedModel], asked: dict[str, Any]
) -> None:
    folder = config_of(tmp_path, models["qwen3"], **asked)
    loaded = load_model(folder, torch.float32, "cpu")
    assert loaded.config._attn_implementation == "sdpa"
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, models["qwen3"](ids).logits)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "of_tomorrow", "transformers_version": "99.1"}, r"with transformers 99\.1"),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.C"}}, "code of its own"),
        ({"model_type": "t5"}, "'t5' is no causal language model"),
        ({"model_type": "bert"}, "'bert' is no causal language model"),
        ({"model_type": "vit"}, "'vit' is no causal language model"),
        ({"model_type": "deepseek_v3"}, "latents in place of a plain K/V cache"),
        ({"num_hidden_layers": "many"}, "does not hold a model"),
        ({"num_attention_heads": None}, "does not hold a model|no plain K/V cache"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_evaluated_is_refused_by_the_config(
    tmp_path: Path, models: dict[str, PreTrainedModel], values: dict[str, Any], words: str
) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('it was run')")
    folder = config_of(tmp_path, models["qwen2"], **values)
    with pytest.raises(C2CError, match=words) as error:
        read_config(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "values", "window"),
    [
        ("qwen2", {"sliding_window": 32, "use_sliding_window": False}, None),
        ("qwen2", {"sliding_window": 32, "use_sliding_window": True, "max_window_layers": 1}, 32),
        ("mistral", {"sliding_window": 4096}, 4096),
        ("mistral", {"sliding_window": None}, None),
        ("gemma3_text", {"sliding_window": 512}, 512),
        ("llama", {}, None),
    ],
)
def test_windows_are_those_that_layers_have(
    kind: str, values: dict[str, Any], window: int | None
) -> None:
    config = AutoConfig.for_model(kind, max_position_embeddings=900, **values)
    assert shortest_window(config) == window
    assert longest_text(config) == 900
