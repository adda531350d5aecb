"""Calibrations for tests: fitted on seeded numbers, for any geometry."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from c2c.cache import Geometry
from latentwire.channel import transform_fit
from latentwire.channel.calibration import (
    LAYER_RATES,
    RATES,
    Calibration,
    from_bytes,
    layer_tensors,
    to_bytes,
)
from latentwire.channel.transform import TransformTables
from latentwire.channel.transform_fit import fit_rates


def fit(x: Tensor, bits_per_element: float, **options: Any) -> TransformTables:
    """`fit_rates` at one rate."""
    return fit_rates(x, [bits_per_element], **options)[0]


@lru_cache
def make_calibration(
    geometry: Geometry,
    key_layers: tuple[int, ...],
    value_layers: tuple[int, ...],
    mean_scale: float = 3.0,
) -> Calibration:
    """One for a sharer of `geometry`, whose head_dim must be even."""
    data = calibration_bytes(geometry, key_layers, value_layers, mean_scale)
    return from_bytes(data, "the tests' calibration")


@lru_cache
def calibration_bytes(
    geometry: Geometry,
    key_layers: tuple[int, ...],
    value_layers: tuple[int, ...],
    mean_scale: float = 3.0,
    rank: int | None = None,
    by_layer: bool = True,
    scales: tuple[float, ...] = (),
) -> bytes:
    """The file of one, with at most `rank` components, and with transforms `by_layer`. Numbers of
    sharer layer n are `scales[n]` large."""
    generator = torch.Generator().manual_seed(5)
    shape = (geometry.layers, geometry.kv_heads, geometry.head_dim)
    half = geometry.head_dim // 2
    tensors = {
        "key_mean": mean_scale * torch.randn(shape, generator=generator),
        "inverse_frequencies": 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half),
    }
    for kind, layers in (("key", key_layers), ("value", value_layers)):
        width = len(layers) * geometry.kv_heads * geometry.head_dim
        if width:
            mixed = torch.randn(width, width, generator=generator) / width**0.5
            tokens = torch.randn(4 * width, width, generator=generator) @ mixed
            if scales:
                own_scales = torch.tensor([scales[layer] for layer in layers])
                tokens *= own_scales.repeat_interleave(width // len(layers))
            for rate, tables in zip(RATES, fit_rates(tokens, RATES, rank=rank), strict=True):
                for name, tensor in tables.to_tensors().items():
                    tensors[f"{kind}.{rate:g}.{name}"] = tensor
        for place, layer in enumerate(layers if by_layer else ()):
            own = tokens.view(len(tokens), len(layers), -1)[:, place]
            fitted = transform_fit.fit(own, LAYER_RATES, rank=rank)
            for name, tensor in layer_tensors(*fitted).items():
                tensors[f"{kind}.layer{layer}.{name}"] = tensor
    about: dict[str, object] = {
        "pair": "tests",
        "pair_identity": "00" * 32,
        "dtype": "float32",
        "questions": [],
    }
    about |= {"key_layers": list(key_layers), "value_layers": list(value_layers)}
    return to_bytes(about, tensors)
