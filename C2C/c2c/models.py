"""Loading a causal language model for inference: safetensors only, no remote code."""

import os

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from c2c.cache import geometry
from c2c.errors import C2CError


def load_model(path: str | os.PathLike[str], dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The causal LM in folder `path`, in eval mode, frozen, on `device`.

    Raises C2CError when the folder holds no readable model or one without a plain K/V cache.
    """
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise C2CError(f"{path} does not hold a model that can be loaded: {reason}") from error
    if found["missing_keys"]:  # transformers would fill them at random and only warn
        name, count = min(found["missing_keys"]), len(found["missing_keys"])
        raise C2CError(
            f"{path} does not hold a whole model: weights missing: {count}, first {name}"
        )
    geometry(model.config)
    return model.requires_grad_(False).eval().to(device)
