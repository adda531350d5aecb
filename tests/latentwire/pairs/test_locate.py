"""Finding files: local folders, C2C_CKPT_ROOT, the hub and its failures."""

from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub import constants, errors
from huggingface_hub.utils import filter_repo_objects

from latentwire.errors import LatentWireError
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import LocatedPair, locate, locate_pair
from latentwire.pairs.pair import FileSource

pytestmark = pytest.mark.usefixtures("hub_answers")

MODEL = FileSource(repo="me/model", revision="v1")
FUSER = FileSource(repo="me/fusers", subfolder="mine/final")
MODEL_FILES = ["config.json", "model.safetensors", "tokenizer.json", "merges.txt", "x.jinja"]
FUSER_FILES = ["projector_config.json", "projector_0.json", "projector_0.pt"]


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture(autouse=True)
def no_checkpoint_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("C2C_CKPT_ROOT", raising=False)


def hub_holding(monkeypatch: pytest.MonkeyPatch, snapshot: Path, names: list[str]) -> list[Any]:
    """Stand in for the hub: what is asked for of `names` appears in `snapshot`."""
    asked: list[Any] = []

    def download(
        repo: str,
        *,
        revision: str,
        local_files_only: bool,
        allow_patterns: Any,
        ignore_patterns: Any,
    ) -> str:
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        asked.append((repo, revision))
        chosen = filter_repo_objects(
            names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        fill(snapshot, list(chosen))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def hub_failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*args: object, **options: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_model_download_takes_only_what_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ["pytorch_model.bin", "README.md", "original/params.json", "onnx/model.safetensors"]
    asked = hub_holding(monkeypatch, tmp_path, MODEL_FILES + other)
    assert locate(MODEL, "model") == tmp_path
    assert asked == [("me/model", "v1")]
    assert files(tmp_path) == set(MODEL_FILES)


def test_fuser_download_takes_its_subfolder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [f"mine/final/{name}" for name in FUSER_FILES]
    other = ["config.json", "other/final/projector_0.pt", "mine/final/optimizer.bin"]
    hub_holding(monkeypatch, tmp_path, wanted + other)
    assert locate(FUSER, "fuser") == tmp_path / "mine/final"
    assert files(tmp_path) == set(wanted)


def test_subfolder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_holding(monkeypatch, tmp_path, ["other/final/projector_0.pt"])
    with pytest.raises(LatentWireError, match="fuser me/fusers/mine/final is not in the snapshot"):
        locate(FUSER, "fuser")


def test_checkpoint_root_goes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C2C_CKPT_ROOT", str(tmp_path / "root"))
    asked = hub_holding(monkeypatch, tmp_path / "hub", [f"mine/final/{x}" for x in FUSER_FILES])
    assert locate(FUSER, "fuser") == tmp_path / "hub/mine/final"  # not there yet
    fill(tmp_path / "root/mine/final", FUSER_FILES)
    assert locate(FUSER, "fuser") == tmp_path / "root/mine/final"
    assert len(asked) == 1


def test_checkpoint_root_is_for_fusers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C2C_CKPT_ROOT", str(fill(tmp_path / "root", MODEL_FILES)))
    hub_holding(monkeypatch, tmp_path / "hub", MODEL_FILES)
    assert locate(MODEL, "model") == tmp_path / "hub"


def test_local_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C2C_CKPT_ROOT", str(tmp_path))
    hub_failing(monkeypatch, AssertionError("asked the hub"))
    assert locate(FileSource(path=fill(tmp_path / "m", MODEL_FILES)), "model") == tmp_path / "m"
    assert locate(FileSource(path=fill(tmp_path / "f", FUSER_FILES)), "fuser") == tmp_path / "f"
    with pytest.raises(LatentWireError, match=f"the model's folder {tmp_path}/x does not exist"):
        locate(FileSource(path=tmp_path / "x"), "model")


@pytest.mark.parametrize(
    ("kind", "names", "missing"),
    [
        ("model", ["config.json"], r"no \*\.safetensors"),
        ("model", ["model.safetensors"], r"no config\.json"),
        ("fuser", ["projector_config.json"], r"no projector_0\.json, projector_0\.pt"),
    ],
)
def test_incomplete_folder_is_named(
    tmp_path: Path, kind: Any, names: list[str], missing: str
) -> None:
    source = FileSource(path=fill(tmp_path, names))
    with pytest.raises(LatentWireError, match=f"the {kind} in {tmp_path} is incomplete: {missing}"):
        locate(source, kind)


RESPONSE = httpx.Response(403, request=httpx.Request("GET", "https://hub"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            errors.GatedRepoError("x", response=RESPONSE),
            "its repository is gated; accept its terms",
        ),
        (
            errors.RepositoryNotFoundError("x", response=RESPONSE),
            "no folder here is called so, and the hub has no such repository",
        ),
        (errors.RevisionNotFoundError("x", response=RESPONSE), "its repository has no such revis"),
        (
            errors.LocalEntryNotFoundError("x\ny"),
            "no folder here is called so, the Hugging Face hub cannot be reached and it",
        ),
        (OSError("disk full\nmore"), "OSError: disk full"),
        (httpx.ProxyError(""), "ProxyError"),
    ],
)
def test_hub_failure_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub_failing(monkeypatch, error)
    with pytest.raises(LatentWireError) as caught:
        locate(MODEL, "model")
    assert str(caught.value).startswith(f"the model me/model at v1 could not be had: {reason}")
    assert "\n" not in str(caught.value)


def test_offline_without_a_cache_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real client, which asks for nothing in this mode.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LatentWireError) as caught:
        locate(FUSER, "fuser")
    assert "offline mode is set (HF_HUB_OFFLINE) and it is not wholly in" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_pair_is_located_whole(tmp_path: Path) -> None:
    for name in ("receiver", "sharer"):
        fill(tmp_path / name, MODEL_FILES)
    fill(tmp_path / "fuser", FUSER_FILES)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ndescription: my own\nreceiver: {path: receiver}\nsharer: {path: sharer}\n"
        "fuser: {path: fuser}\ndatasets: [arc_c]\nshared_tokenizer: true\n"
    )
    assert locate_pair(load_pair(str(tmp_path / "mine.yaml"))) == LocatedPair(
        tmp_path / "receiver", tmp_path / "sharer", tmp_path / "fuser"
    )


def test_nothing_is_downloaded_when_only_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub_holding(monkeypatch, tmp_path / "snapshot", ["config.json", "model.safetensors"])
    with pytest.raises(LatentWireError, match="it is not wholly in the cache"):
        locate(FileSource(repo="somebody/model"), "model", download=False)
    assert asked == []
    assert locate(FileSource(repo="somebody/model"), "model") == tmp_path / "snapshot"
