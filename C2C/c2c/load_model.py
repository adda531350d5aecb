"""Loading a causal language model for inference: safetensors only, no remote code."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

from c2c.cache import geometry
from c2c.errors import C2CError

# Ways to compute attention that are there with torch alone.
_PLAIN_ATTENTION = (None, "eager", "sdpa")


def load_model(path: str | os.PathLike[str], dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The causal LM in folder `path`, in eval mode, frozen, on `device`.

    Raises C2CError as `read_config` does, and when the folder holds no readable weights.
    """
    config = read_config(path)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # quantizers and damaged files raise types of their own
        raise C2CError(
            f"{path} does not hold a model that can be loaded: {_first_line(error)}"
        ) from error
    if found["missing_keys"]:  # transformers would fill them at random and only warn
        name, count = min(found["missing_keys"]), len(found["missing_keys"])
        raise C2CError(
            f"{path} does not hold a whole model: weights missing: {count}, first {name}"
        )
    return model.requires_grad_(False).eval().to(device)


def read_config(path: str | os.PathLike[str]) -> Any:
    """The configuration of the causal LM in folder `path`, without looking at its weights.

    Attention is computed as transformers does by default: a config that asks for FlashAttention
    asks for speed, its answers are the same.

    Raises C2CError for a model that cannot be evaluated here.
    """
    plain = _json(Path(path))
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a field may hold
        raise C2CError(_unreadable(path, plain, error)) from error
    # BERT and its like can be made decoders; as they are, they read both ways.
    both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(
        config, "is_decoder", False
    )
    is_causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not config.is_encoder_decoder
    if both_ways or not is_causal:
        raise C2CError(
            f"{path}: a model of type {config.model_type!r} is no causal language model; take a"
            " decoder (Qwen2, Qwen3, Llama, Gemma 3, ...)"
        )
    _require_loadable_weights(path, config)
    _require_plain_cache(path, config)
    for part in (config, config.get_text_config()):
        if part._attn_implementation not in _PLAIN_ATTENTION:
            part._attn_implementation = None
    return config


def shortest_window(config: Any) -> int | None:
    """Over how many tokens a layer of the model looks back at most; None: over all."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if window is None or getattr(text, "use_sliding_window", True) is False:
        return None
    kinds = getattr(text, "layer_types", None)
    return int(window) if kinds is None or "sliding_attention" in kinds else None


def longest_text(config: Any) -> int | None:
    """The number of tokens that the model was made for; None where its config gives none."""
    tokens = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(tokens) if tokens else None


def _unreadable(path: str | os.PathLike[str], plain: dict[str, Any], error: Exception) -> str:
    where = f"{path} does not hold a model that can be loaded: its config.json"
    if plain.get("auto_map"):
        return f"{where} asks for code of its own (auto_map), which is never run here"
    made, here = plain.get("transformers_version"), transformers.__version__
    by = f" (made with transformers {made}, here is {here})" if made and made != here else ""
    return f"{where} does not describe one: {_first_line(error)}{by}"


def _require_loadable_weights(path: str | os.PathLike[str], config: Any) -> None:
    """C2CError for quantized weights whose library, or device, transformers does not find."""
    parts = (config, config.get_text_config())
    found = next((q for p in parts if (q := getattr(p, "quantization_config", None))), None)
    if found is None:
        return
    content = copy.deepcopy(found if isinstance(found, dict) else found.to_dict())
    method = content.get("quant_method")
    if content.get("load_in_4bit") or content.get("load_in_8bit"):
        method = "bitsandbytes"
    reason = None
    try:
        if method not in AUTO_QUANTIZATION_CONFIG_MAPPING and method != "bitsandbytes":
            reason = "transformers knows no such method"  # it would go on with a warning
        else:
            quantizer = AutoHfQuantizer.from_config(content, pre_quantized=True)
            quantizer.validate_environment(device_map=None, weights_only=True)
    except Exception as error:  # each of two dozen libraries is missed in its own way
        reason = _first_line(error)
    if reason:
        raise C2CError(
            f"{path}: its weights are quantized ({method}) and cannot be loaded here: {reason};"
            " take the checkpoint with plain weights, or install what is missing"
        )


def _require_plain_cache(path: str | os.PathLike[str], config: Any) -> None:
    geometry(config)
    if getattr(config.get_text_config(), "kv_lora_rank", None):
        raise C2CError(
            f"{path}: a model of type {config.model_type!r} keeps latents in place of a plain K/V"
            " cache; choose a decoder with one (Qwen2, Qwen3, Llama, Gemma 3, ...)"
        )


def _json(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise C2CError(
            f"{folder} does not hold a model that can be loaded: its config.json does not describe"
            f" one: {_first_line(error)}"
        ) from None
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
