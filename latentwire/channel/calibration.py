"""What both ends know of a sharer's caches beforehand, measured on training prompts.

One file (safetensors), named by its sha256: a condition that uses it has the hash in its
fingerprint, and a packet coded with it the first 8 bytes.

Tensors in the file: `about` (uint8, JSON: format, pair, dtype, questions, layers sent), `key_mean`
(float32 [L, H, D], of keys with the rotary embedding undone), `inverse_frequencies` (float64
[D / 2], of that embedding), and for each rate of transform coding the parts of its
`TransformTables`, as `key.0.5.mean`. Of transforms of one layer, mean and basis stand there once,
as `key.layer3.basis`, and for each rate which of its columns are coded (`key.layer3.2.columns`,
int32) and the other parts. Files made before these transforms were there lack them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from c2c.cache import Geometry
from latentwire.channel.codec import CodecError
from latentwire.channel.codec_names import LAYER_RATES, RATES, bits_label
from latentwire.channel.transform import TransformTables
from latentwire.errors import LatentWireError, first_line

DIGEST_BYTES = 8
FORMAT = 1
KINDS = ("key", "value")
SHARED = ("mean", "basis")  # of a layer's tables, the same at every rate
# Beyond these a mean turned to some position, or an angle, could be no finite number. Means of keys
# are below a thousand, frequencies below one.
LARGEST_MEAN = 2.0**100
LARGEST_FREQUENCY = 2.0**20


@dataclass(frozen=True, eq=False)
class Calibration:
    """Read-only; compare by `hash`."""

    hash: str  # sha256 of the file, hex
    about: Mapping[str, Any]
    geometry: Geometry  # of the sharer's cache
    key_mean: Tensor  # float32 [L, H, D]
    inverse_frequencies: Tensor  # float64 [D / 2]
    layers: Mapping[str, tuple[int, ...]]  # whose K (`key`) and V (`value`) the pair sends
    tables: Mapping[tuple[str, float], TransformTables]  # of transform coding, by kind and rate
    layer_tables: Mapping[tuple[str, int, float], TransformTables]
    """Of transforms of one layer, by kind, layer and rate. Empty in files that lack them."""

    @property
    def digest(self) -> bytes:
        """Stands in packets."""
        return bytes.fromhex(self.hash)[:DIGEST_BYTES]

    @property
    def value_mean(self) -> Tensor:
        """Of the values of layers that the pair sends, and 0 for others: float32 [L, H, D]."""
        mean, shape = torch.zeros_like(self.key_mean), self.key_mean.shape[1:]
        for layer in self.layers["value"]:
            mean[layer] = self.layer_tables["value", layer, LAYER_RATES[0]].mean.view(shape)
        return mean

    def bytes_for(self, codec: str) -> int:
        """What a codec that needs a calibration uses of it, in bytes: side information, which both
        ends hold before the first message."""
        name = codec.partition("+")[0]
        rate = LAYER_RATES[-1] if name.startswith("planes") else float(bits_label(name))
        used = [self.inverse_frequencies]
        if name.startswith("turbo"):
            used.append(self.key_mean)
        else:
            held = self.tables if name.startswith("kvtc") else self.layer_tables
            tables = [each for place, each in held.items() if place[-1] == rate]
            used += [tensor for each in tables for tensor in each.to_tensors().values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in used)

    def check_serves(self, asker: str) -> None:
        """LatentWireError where it was made before `asker`, a codec or control, was there."""
        if ("klt" in asker or "control" in asker) and not self.layer_tables:
            raise LatentWireError(f"the calibration is older than {asker}: calibrate anew")


def required(calibration: Calibration | None, codec: str) -> Calibration:
    """The calibration; CodecError where `codec` has none."""
    if calibration is None:
        raise CodecError(f"{codec} needs the calibration that it was coded with")
    return calibration


def to_bytes(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The file's content: `about` and the tensors named above."""
    text = json.dumps({**about, "format": FORMAT}, sort_keys=True).encode()
    return save(
        {
            "about": torch.from_numpy(np.frombuffer(text, np.uint8).copy()),
            **{name: tensor.contiguous().clone() for name, tensor in tensors.items()},
        }
    )


def from_bytes(data: bytes, source: str) -> Calibration:
    """The calibration in a file's content; LatentWireError, naming `source`, if it holds none."""
    try:
        tensors = load(data)
        about = json.loads(bytes(tensors.pop("about").numpy()))
        mean = tensors.pop("key_mean")
        frequencies = tensors.pop("inverse_frequencies")
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise LatentWireError(f"{source} is no calibration file: {first_line(error)}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise LatentWireError(f"{source} is a calibration of another format than {FORMAT}")
    if mean.dtype != torch.float32 or mean.dim() != 3 or 0 in mean.shape:
        raise LatentWireError(f"{source}: key_mean is not float32 [layers, heads, channels]")
    geometry = Geometry(*mean.shape)
    halves = frequencies.dtype == torch.float64 and frequencies.dim() == 1
    if not halves or 2 * len(frequencies) != geometry.head_dim:
        raise LatentWireError(f"{source}: inverse_frequencies is not float64 [channels / 2]")
    if not bool(torch.isfinite(mean).all() and torch.isfinite(frequencies).all()):
        raise LatentWireError(f"{source} holds NaN or infinite numbers")
    if max(mean.abs().max() / LARGEST_MEAN, frequencies.abs().max() / LARGEST_FREQUENCY) > 1:
        raise LatentWireError(f"{source} holds numbers that are too large")
    layers = {kind: _layers(about.get(f"{kind}_layers"), geometry, source) for kind in KINDS}
    try:
        tables = {
            (kind, rate): TransformTables.from_tensors(_below(tensors, f"{kind}.{rate:g}."))
            for kind in KINDS
            for rate in RATES
            if layers[kind]
        }
        by_layer = {
            (kind, layer, rate): _layer_tables(parts, rate)
            for kind in KINDS
            for layer in layers[kind]
            if "basis" in (parts := _below(tensors, f"{kind}.layer{layer}."))
            for rate in LAYER_RATES
        }
    except CodecError as error:
        raise LatentWireError(f"{source}: {error}") from None
    wanted = [(len(layers[kind]), part) for (kind, _), part in tables.items()]
    wanted += [(1, part) for part in by_layer.values()]
    if any(part.features != count * geometry.width for count, part in wanted):
        raise LatentWireError(f"{source}: its transforms are not of the layers that it names")
    digest = hashlib.sha256(data).hexdigest()
    return Calibration(digest, about, geometry, mean, frequencies, layers, tables, by_layer)


def layer_tensors(
    basis: Tensor, fitted: Sequence[tuple[Tensor, TransformTables]]
) -> dict[str, Tensor]:
    """What the file says of one layer's K or V, without what stands before its names: the whole
    basis [F, R], and tables with the columns of it that each has, one a rate of LAYER_RATES."""
    parts = {"mean": fitted[0][1].mean, "basis": basis}
    for rate, (columns, tables) in zip(LAYER_RATES, fitted, strict=True):
        own = {**tables.to_tensors(), "columns": columns}
        parts |= {f"{rate:g}.{name}": x for name, x in own.items() if name not in SHARED}
    return parts


def _layer_tables(parts: dict[str, Tensor], rate: float) -> TransformTables:
    """What `layer_tensors` wrote of one rate; CodecError for anything else."""
    below = _below(parts, f"{rate:g}.")  # of 2, those of 2.25 too
    own = {name: tensor for name, tensor in below.items() if "." not in name}
    columns, basis = own.pop("columns", None), parts["basis"]
    if columns is None or columns.dtype != torch.int32 or columns.dim() != 1 or basis.dim() != 2:
        raise CodecError("transform tables: columns or basis of a layer are missing or misshaped")
    if bool(((columns < 0) | (columns >= basis.shape[1])).any()):
        raise CodecError("transform tables: there are fewer columns in a layer's basis")
    shared = {"mean": parts.get("mean", basis.new_zeros(0)), "basis": basis[:, columns.long()]}
    return TransformTables.from_tensors({**own, **shared})


def _layers(found: Any, geometry: Geometry, source: str) -> tuple[int, ...]:
    inside = isinstance(found, list) and all(
        type(layer) is int and 0 <= layer < geometry.layers for layer in found
    )
    if not inside or found != sorted(set(found)):
        raise LatentWireError(f"{source} does not name the layers that it was made for")
    return tuple(found)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
