"""Checkpoints of the bundled pair, whole and damaged."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from c2c.cache import geometry
from c2c.checkpoint import require_fit
from c2c.errors import C2CError
from c2c.load_model import load_model
from latentwire.checks.weights import configs, weights_bytes
from latentwire.errors import LatentWireError
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import LocatedPair, locate_pair


@pytest.fixture
def located(tmp_path: Path) -> LocatedPair:
    """A copy of the bundled pair."""
    found = locate_pair(load_pair("demo"))
    for part in ("receiver", "sharer", "fuser"):
        shutil.copytree(getattr(found, part), tmp_path / part)
    return LocatedPair(tmp_path / "receiver", tmp_path / "sharer", tmp_path / "fuser")


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def test_as_many_bytes_as_the_loaded_models_take(located: LocatedPair) -> None:
    models = [load_model(f, torch.float32, "cpu") for f in (located.receiver, located.sharer)]
    numbers = sum(p.numel() for model in models for p in model.parameters())
    fuser = sum(
        tensor.numel()
        for path in located.fuser.glob("*.pt")
        for tensor in torch.load(path, weights_only=True).values()
    )
    assert weights_bytes(located, torch.float32) == 4 * (numbers + fuser)
    assert weights_bytes(located, torch.bfloat16) == 2 * (numbers + fuser)


def test_a_model_that_is_cut_short_is_named(located: LocatedPair) -> None:
    cut(located.sharer / "model.safetensors")
    with pytest.raises(LatentWireError, match=r"sharer/model\.safetensors is cut short"):
        weights_bytes(located, torch.float32)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_an_empty_projector_is_named(located: LocatedPair, content: bytes) -> None:
    (located.fuser / "projector_2.pt").write_bytes(content)
    with pytest.raises(LatentWireError, match=r"projector_2\.pt is cut short"):
        weights_bytes(located, torch.float32)


def test_a_projector_that_is_cut_short_is_named(located: LocatedPair) -> None:
    cut(located.fuser / "projector_3.pt")
    with pytest.raises(LatentWireError, match=r"projector_3\.pt is cut short"):
        weights_bytes(located, torch.float32)


def test_a_shard_that_the_index_names_must_be_there(located: LocatedPair) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (located.receiver / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LatentWireError, match=r"is incomplete: no model-2\.safetensors"):
        weights_bytes(located, torch.float32)
    (located.receiver / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(LatentWireError, match="cannot be read as an index"):
        weights_bytes(located, torch.float32)


def test_the_fuser_fits_by_its_descriptions_alone(located: LocatedPair) -> None:
    for path in located.fuser.glob("*.pt"):
        path.write_bytes(b"")
    assert require_fit(located.fuser, *map(geometry, configs(located))) == 5
    path = located.fuser / "projector_1.json"
    content = json.loads(path.read_text())
    content["init_args"]["source_dim"] = 7
    path.write_text(json.dumps(content))
    with pytest.raises(C2CError, match="does not fit the pair"):
        require_fit(located.fuser, *map(geometry, configs(located)))


def test_a_configuration_that_is_none_is_named(located: LocatedPair) -> None:
    (located.receiver / "config.json").write_text("{")
    with pytest.raises(LatentWireError, match=r"receiver does not hold a model .* config\.json"):
        configs(located)
