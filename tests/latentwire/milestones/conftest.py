"""Milestones in this process, in a folder and a store of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from in_process import run_milestone
from launched import the_launcher
from tests_support import empty_store

from latentwire.milestones import m2
from latentwire.parameters import Values, checked
from latentwire.tracking import outbox

Given = Callable[..., Values]


def values_of(milestone: ModuleType, **given: object) -> Values:
    """A milestone's parameters: those given, the bundled pair on a CPU, and defaults."""
    texts = {parameter.name: parameter.default for parameter in milestone.PARAMETERS}
    texts |= {"pair": "demo", "device": "cpu"} | {k: str(v) for k, v in given.items()}
    return checked(milestone.PARAMETERS, texts)


@pytest.fixture
def values() -> Given:
    return values_of


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which M2 has finished int4 on the first questions of one set."""
    folder = tmp_path_factory.mktemp("studied")
    empty_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        _alone(patch, folder)
        run_milestone(m2, values_of(m2, kv_bits=4, limit=6, chunk_size=4, dataset="demo_facts"))
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: None) -> Path:
    """The current folder, without a store."""
    _alone(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def folder(empty: Path, studied: Path) -> Path:
    """The current folder, with a copy of `studied`'s store."""
    shutil.copy(studied / "mlflow.db", empty)
    return empty


def _alone(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    patch.setattr(outbox, "subprocess", the_launcher().subprocess())
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "C2C_CKPT_ROOT"):
        patch.delenv(name, raising=False)
