"""The published fuser layout, read and written, of fusers and of prefixes.

    config.json                     (one level up) the training recipe, informative
    projector_<i>.json              {"class": "C2CProjector" or "PrefixProjector", "init_args": ...}
    projector_<i>.pt                state dictionary of plain tensors
    projector_config.json           {"0": {"1": {receiver layer: [[sharer layer, projector], ...]}}}

A checkpoint is hostile until parsed: JSON is checked field by field, tensors are unpickled with
``weights_only=True``, and networks are built without memory until the tensors are seen to fit.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from c2c.cache import Geometry
from c2c.errors import C2CError
from c2c.files import read_file
from c2c.fuser import Fuser, LayerSource, Projectors
from c2c.prefix_projector import PrefixProjector, ProjectedPrefix
from c2c.projector import Projector, ProjectorSize

P = TypeVar("P", bound=Projectors)

# What `class` in a description says, and of which networks what is loaded consists then.
CLASSES: dict[type[Projectors], tuple[str, type[Projector | PrefixProjector]]] = {
    Fuser: ("C2CProjector", Projector),
    ProjectedPrefix: ("PrefixProjector", PrefixProjector),
}
MAP_FILE = "projector_config.json"
# What an absent argument means (the published constructor's defaults).
DEFAULTS: dict[str, Any] = {
    "source_num_heads": 1,
    "target_num_heads": 1,
    "hidden_dim": 1024,
    "intermediate_dim": 1024,
    "num_layers": 3,
    "dropout": 0.1,
}
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def load_fuser(
    folder: Path,
    sharer: Geometry,
    receiver: Geometry,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Fuser:
    """The fuser in `folder` (the one that holds projector_config.json); see `load`."""
    return load(Fuser, folder, sharer, receiver, dtype, device)


def load(
    kind: type[P],
    folder: Path,
    sharer: Geometry,
    receiver: Geometry,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> P:
    """What is in `folder`, which must be a fuser or a prefix as asked for, frozen, in eval mode.

    Raises C2CError when a file is missing or unreadable, and when the fuser does not fit the
    pair: the sentence names the receiver layer and both shapes; and when `dtype` cannot hold it.
    """
    layer_map, layer_of, count = _read_layout(kind, folder, sharer, receiver)
    projectors = [
        _load_projector(kind, folder, index, layer_of.get(index, index), sharer, receiver)
        for index in range(count)
    ]
    loaded = kind(projectors, layer_map, sharer, receiver)
    loaded.requires_grad_(False).eval().to(device)
    cast_weights(loaded, dtype)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in loaded.parameters()):
        raise C2CError(
            f"{folder}: weights of the fuser are too large for {dtype}; take bfloat16 or float32"
        )
    return loaded


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Round what was trained. Buffers are numbers that 16 bits may not hold, and stay."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)


def require_fit(
    folder: Path, sharer: Geometry, receiver: Geometry, kind: type[Projectors] = Fuser
) -> int:
    """See from the descriptions in `folder`, without its tensors, whether the fuser fits the pair;
    how many projectors it has.

    Raises C2CError as `load` does, for all that the descriptions tell.
    """
    _, layer_of, count = _read_layout(kind, folder, sharer, receiver)
    for index in range(count):
        _read_size(kind, folder, index, layer_of.get(index, index), sharer, receiver)
    return count


def checkpoint_class(folder: Path) -> str:
    """The class that the checkpoint in `folder` is of, by its first projector's description.

    Raises C2CError where that cannot be read.
    """
    path = folder / "projector_0.json"
    description = _read_json(path)
    name = description.get("class") if isinstance(description, dict) else None
    if not isinstance(name, str):
        raise C2CError(f"{path} does not describe a projector: it names no class")
    return name


def _read_layout(
    kind: type[Projectors], folder: Path, sharer: Geometry, receiver: Geometry
) -> tuple[dict[int, LayerSource], dict[int, int], int]:
    """The layer map, the first receiver layer that takes each projector, and how many there are."""
    layer_map = _read_map(folder / MAP_FILE)
    count = _count_projectors(folder)
    layer_of = {source.projector: layer for layer, source in reversed(layer_map.items())}
    for layer, source in layer_map.items():
        if not 0 <= layer < receiver.layers:
            raise C2CError(
                f"{folder}: the fuser maps receiver layer {layer},"
                f" but the receiver has {receiver.layers} layers"
            )
        if not 0 <= source.sharer_layer < sharer.layers:
            raise C2CError(
                f"{folder}: receiver layer {layer} takes sharer layer {source.sharer_layer},"
                f" but the sharer has {sharer.layers} layers"
            )
        if not 0 <= source.projector < count:
            raise C2CError(
                f"{folder}: receiver layer {layer} takes projector {source.projector},"
                f" but there are {count} projectors"
            )
    if kind.inserts and len(layer_map) < receiver.layers:
        missing = min(set(range(receiver.layers)) - layer_map.keys())
        raise C2CError(
            f"{folder}: receiver layer {missing} is not in the layer map, and a prefix needs K and"
            " V of each"
        )
    return layer_map, layer_of, count


def save_fuser(fuser: Projectors, folder: Path, recipe: dict[str, Any] | None = None) -> None:
    """Write `fuser` into `folder` in the published layout, and `recipe` as ../config.json.

    The folder appears whole or not at all.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for index, module in enumerate(fuser.projectors):
        assert isinstance(module, Projector | PrefixProjector)
        dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
        arguments = {
            "source_dim": module.sharer.head_dim,
            "target_dim": module.receiver.head_dim,
            "source_num_heads": module.sharer.kv_heads,
            "target_num_heads": module.receiver.kv_heads,
            "hidden_dim": module.size.hidden_dim,
            "intermediate_dim": module.size.intermediate_dim,
            "num_layers": module.size.num_layers,
            "dropout": module.size.dropout,
            "dtype": {"__type__": "torch.dtype", "value": dtype},
        }
        description = {"class": CLASSES[type(fuser)][0], "init_args": arguments}
        (partial / f"projector_{index}.json").write_text(json.dumps(description, indent=2))
        # clone(): a view would be saved with the whole storage behind it.
        state = {name: t.detach().cpu().clone() for name, t in module.state_dict().items()}
        torch.save(state, partial / f"projector_{index}.pt")
    layers = {str(t): [[s.sharer_layer, s.projector]] for t, s in fuser.layer_map.items()}
    (partial / MAP_FILE).write_text(json.dumps({"0": {"1": layers}}))
    if recipe is not None:
        (folder.parent / "config.json").write_text(json.dumps(recipe, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_file(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise C2CError(f"{path} is missing: the folder does not hold a whole fuser") from None
    except (OSError, ValueError, RecursionError) as error:
        raise C2CError(f"{path} cannot be read as JSON: {error}") from None


def _read_map(path: Path) -> dict[int, LayerSource]:
    content = _read_json(path)
    try:
        layers = content["0"]["1"]
        return {
            int(layer): LayerSource(_whole(pairs[0][0]), _whole(pairs[0][1]))
            for layer, pairs in sorted(layers.items(), key=lambda item: int(item[0]))
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise C2CError(
            f'{path} is not a layer map: expected {{"0": {{"1": {{receiver layer:'
            " [[sharer layer, projector], ...]}}"
        ) from None


def _count_projectors(folder: Path) -> int:
    numbers = {
        int(match[1])
        for path in folder.iterdir()
        if (match := re.fullmatch(r"projector_(\d+)\.pt", path.name))
    }
    if numbers != set(range(len(numbers))) or not numbers:
        raise C2CError(
            f"{folder}: projector files are not numbered 0, 1, 2, ...: {sorted(numbers)}"
        )
    return len(numbers)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _read_size(
    kind: type[Projectors],
    folder: Path,
    index: int,
    layer: int,
    sharer: Geometry,
    receiver: Geometry,
) -> ProjectorSize:
    """A projector's widths from its description, which must be of the class asked for and of the
    pair's cache shapes."""
    path = folder / f"projector_{index}.json"
    description = _read_json(path)
    try:
        name, given = description["class"], description["init_args"]
        arguments = DEFAULTS | given
        sizes = {name: _whole(arguments[name]) for name in DEFAULTS if name != "dropout"}
        source = Geometry(0, sizes["source_num_heads"], _whole(arguments["source_dim"]))
        target = Geometry(0, sizes["target_num_heads"], _whole(arguments["target_dim"]))
        size = ProjectorSize(
            sizes["hidden_dim"],
            sizes["intermediate_dim"],
            sizes["num_layers"],
            float(arguments["dropout"]),
        )
        if not 0 <= size.dropout <= 1:  # NaN is not, either
            raise ValueError("dropout is not a number from 0 to 1")
    # A number in JSON may have more digits than a float can say.
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise C2CError(f"{path} does not describe a projector: {error}") from None
    known = CLASSES[kind][0]
    if name != known:
        raise C2CError(f"{path}: projector class {name!r} is not supported, only {known}")
    for name, found, model in (("sharer", source, sharer), ("receiver", target, receiver)):
        if (found.kv_heads, found.head_dim) != (model.kv_heads, model.head_dim):
            raise C2CError(
                f"{folder}: the fuser does not fit the pair: at receiver layer {layer} it expects"
                f" a {name} cache of {found.kv_heads} heads x {found.head_dim},"
                f" the {name} has {model.kv_heads} heads x {model.head_dim}"
            )
    if size.num_layers < 3 or min(size.hidden_dim, size.intermediate_dim) < 1:
        raise C2CError(f"{path}: num_layers must be at least 3 and widths at least 1, got {size}")
    return size


def _load_projector(
    kind: type[Projectors],
    folder: Path,
    index: int,
    layer: int,
    sharer: Geometry,
    receiver: Geometry,
) -> nn.Module:
    path = folder / f"projector_{index}.json"
    size = _read_size(kind, folder, index, layer, sharer, receiver)
    state = _load_tensors(folder / f"projector_{index}.pt")
    if size.num_layers > len(state):  # every layer has tensors of its own: do not build a million
        raise C2CError(
            f"{path}: num_layers is {size.num_layers}, the state has {len(state)} tensors"
        )
    largest = max((tensor.numel() for tensor in state.values()), default=0)
    if max(size.hidden_dim, size.intermediate_dim) > largest:  # nor one wider than memory
        raise C2CError(
            f"{folder}: the fuser does not fit: at receiver layer {layer}, {path.name} gives widths"
            f" of {size.hidden_dim} and {size.intermediate_dim}, the largest tensor has {largest}"
            " numbers"
        )
    with torch.device("meta"):
        projector = CLASSES[kind][1](sharer, receiver, size)
    expected = projector.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        found_shape = tuple(state[name].shape) if name in state else "nothing"
        if wanted != found_shape:
            raise C2CError(
                f"{folder}: the fuser does not fit: at receiver layer {layer}, {name} should be"
                f" {wanted}, the file holds {found_shape}"
            )
    projector.load_state_dict(state, strict=True, assign=True)
    return projector


def _load_tensors(path: Path) -> dict[str, Tensor]:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise C2CError(f"{path} is not a file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise C2CError(f"{path} is missing: the folder does not hold a whole fuser") from None
    except Exception:  # an altered file trips the unpickler in ways that no list of types covers
        raise C2CError(
            f"{path} is not a state dictionary of plain tensors (truncated, altered, or a pickle"
            " that holds something else); nothing in it was run"
        ) from None
    if not isinstance(state, dict):
        raise C2CError(f"{path} holds a {type(state).__name__}, not a state dictionary")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise C2CError(f"{path}: entry {name!r} is not a named tensor")
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise C2CError(f"{path}: {name} is not a plain tensor")
        if tensor.nbytes > path.stat().st_size:  # a few numbers spread by strides of zero
            raise C2CError(f"{path}: {name} is larger than the file")
        if tensor.dtype not in _FLOATS or not bool(torch.isfinite(tensor).all()):
            raise C2CError(f"{path}: {name} holds numbers that are not finite floating point")
    return state
