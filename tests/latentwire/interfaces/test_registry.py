"""Which interface a checkpoint is of stands in its descriptions."""

from pathlib import Path

import pytest
import torch
from other_interfaces import Average
from tiny import write_pair

from c2c.cache import Geometry, geometry
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.load_model import read_config
from latentwire.errors import LatentWireError
from latentwire.interfaces.plug import Plug, Weights
from latentwire.interfaces.registry import INTERFACES, load_interface, require_fit


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder)
    return folder


@pytest.fixture
def shapes(pair: Path) -> tuple[Geometry, Geometry]:
    sharer, receiver = (geometry(read_config(pair / name)) for name in ("sharer", "receiver"))
    return sharer, receiver


def test_every_class_has_one_interface() -> None:
    weights = [plug.weights for plug in INTERFACES.values() if plug.weights]
    classes = [name for each in weights for name in each.checkpoint_classes]
    assert len(classes) == len(set(classes)) > 0


def test_a_published_checkpoint_is_a_fuser(pair: Path, shapes: tuple[Geometry, Geometry]) -> None:
    folder = pair / "fuser" / "final"
    assert require_fit(folder, *shapes) == 5
    loaded = load_interface(folder, *shapes, torch.bfloat16)
    assert isinstance(loaded, Fuser) and not loaded.training
    assert loaded.describe() == "gates open: keys 3 and values 3 of 5 layers"


def test_another_class_is_named_with_those_known(
    tmp_path: Path, shapes: tuple[Geometry, Geometry]
) -> None:
    path = tmp_path / "projector_0.json"
    path.write_text('{"class": "Prefix"}')
    for ask in (load_interface, require_fit):
        with pytest.raises(
            LatentWireError, match=r"'Prefix'.*known: C2CProjector, PrefixProjector\)"
        ) as error:
            ask(tmp_path, *shapes)
        assert "\n" not in str(error.value)
    for broken in ("{}", '{"class": ["C2CProjector"]}', "[]", "3"):
        path.write_text(broken)
        with pytest.raises(C2CError, match=r"projector_0\.json .* names no class"):
            require_fit(tmp_path, *shapes)


def test_one_more_line_is_one_more_interface(
    tmp_path: Path, shapes: tuple[Geometry, Geometry], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Average(shapes[0])
    weights = Weights(("AnyClass", "Other"), lambda *given: one, lambda *given: 7)
    monkeypatch.setitem(INTERFACES, "other", Plug(inserts=False, weights=weights))
    (tmp_path / "projector_0.json").write_text('{"class": "Other"}')
    assert require_fit(tmp_path, *shapes) == 7
    assert load_interface(tmp_path, *shapes) is one
