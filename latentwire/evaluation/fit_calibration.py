"""Measure on training questions what calibrated codecs need to know of a sharer's caches."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from c2c import sharer
from c2c.cache import KVCache
from latentwire.channel import rope, transform_fit
from latentwire.channel.calibration import LAYER_RATES, RATES, layer_tensors, to_bytes
from latentwire.channel.kvtc import token_vectors
from latentwire.errors import LatentWireError
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import as_batch
from latentwire.evaluation.unanswerable import readable
from latentwire.tasks.question import Question

log = logging.getLogger("latentwire")

# A token of a large sharer has more numbers than can be decomposed in minutes: then only so many
# tokens are fitted to, and so many components kept, which also bounds the file.
LARGE_FEATURES = 8192
LARGE_RANK = 1024
LAYER_TOKENS = 4096  # that a layer's steps and frequencies are measured on, at most


@torch.inference_mode()
def calibrate(
    pair: LoadedPair,
    questions: Sequence[Question],
    about: Mapping[str, Any],
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> bytes:
    """The content of the calibration file for the sharer's caches of `questions`.

    `about` says whose caches they are, and goes into the file. `progress` is told what is being
    done, how much of it is done and how much there is. Questions that a model cannot read, or whose
    cache is no numbers, are left out; LatentWireError where none is left.
    """
    frequencies = rope.inverse_frequencies(pair.sharer).double()
    keys, values = [], []
    asked = readable(pair, questions)
    for done, question in enumerate(asked):
        progress("reading", done, len(asked))
        cache = sharer.read(pair.sharer, as_batch(question.prompts.sharer_ids, pair.device))
        positions = torch.arange(cache.tokens)
        whole = _stacked(cache)
        if not all(bool(part.isfinite().all()) for part in whole):
            continue
        keys.append(rope.undo(whole[0], positions, frequencies))
        values.append(whole[1])
    if lost := len(questions) - len(keys):
        log.warning("calibrate: %d of %d questions cannot be read", lost, len(questions))
    if not keys:
        raise LatentWireError("the caches of the training questions hold NaN or infinite numbers")
    tensors = {
        "key_mean": torch.cat(keys, 2).double().mean(2).float(),
        "inverse_frequencies": frequencies,
    }
    sent = {"key": (keys, pair.endpoint.key_layers), "value": (values, pair.endpoint.value_layers)}
    for kind, (parts, layers) in sent.items():
        if not layers:
            continue
        progress(f"fitting {kind}s", 0, 1)
        tokens = torch.cat([token_vectors(part[list(layers)]) for part in parts])
        rank = None
        if tokens.shape[1] > LARGE_FEATURES:
            tokens, rank = tokens[:LARGE_FEATURES], LARGE_RANK
        if pair.device.type == "cuda":  # of thousands of features, minutes on a processor
            tokens = tokens.to(pair.device)
        fitted = transform_fit.fit_rates(tokens, RATES, rank=rank)
        for rate, tables in zip(RATES, fitted, strict=True):
            for name, tensor in tables.to_tensors().items():
                tensors[f"{kind}.{rate:g}.{name}"] = tensor
        for layer in layers:
            progress(f"fitting {kind}s by layer", layer, len(parts[0]))
            for name, tensor in _fit_layer([part[layer : layer + 1] for part in parts]).items():
                tensors[f"{kind}.layer{layer}.{name}"] = tensor
    named = {f"{kind}_layers": list(layers) for kind, (_, layers) in sent.items()}
    return to_bytes({**about, **named}, tensors)


def _fit_layer(parts: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors of one layer's transform, for its K or V [1, H, T, D] of some examples."""
    tokens = torch.cat([token_vectors(part) for part in parts])
    enough = len(tokens) >= transform_fit.SCARCE * tokens.shape[1]
    measured = tokens[:LAYER_TOKENS] if enough else None
    return layer_tensors(*transform_fit.fit(tokens, LAYER_RATES, measured=measured))


def _stacked(cache: KVCache) -> tuple[Tensor, Tensor]:
    """Keys and values of one example, float32 [L, H, T, D] on the CPU."""
    keys, values = (torch.cat(tensors).float().cpu() for tensors in (cache.keys, cache.values))
    return keys, values
