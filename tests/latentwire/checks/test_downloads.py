"""What is still to be downloaded: asked of a hub that stands in for the real one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from latentwire.checks.downloads import Download, describe_downloads, pair_downloads
from latentwire.errors import LatentWireError
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import bytes_to_download
from latentwire.pairs.pair import FileSource

PUBLISHED = load_pair("qwen3_0.6b+qwen2.5_0.5b")
MODEL = FileSource(repo="me/model", download_bytes=77)


@dataclass
class File:
    rfilename: str
    size: int | None


@dataclass
class Info:
    siblings: list[File]
    sha: str = "0" * 40


def hub_telling(monkeypatch: pytest.MonkeyPatch, files: dict[str, int | None]) -> None:
    info = Info([File(name, size) for name, size in files.items()])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: info)


def hub_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)


def test_the_hub_tells_the_sizes_of_the_wanted_files(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": 1, "model.safetensors": 1000, "README.md": 10**6, "onnx/a.json": 5}
    hub_telling(monkeypatch, files)
    assert bytes_to_download(MODEL, "model") == 1001


def test_what_is_in_the_cache_is_not_downloaded_again(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache / "hub" / "models--me--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    hub_telling(monkeypatch, {"config.json": 1, "model.safetensors": 1000})
    assert bytes_to_download(MODEL, "model") == 1000


def test_without_the_hub_the_pairs_own_figure_counts(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_silent(monkeypatch)
    assert bytes_to_download(MODEL, "model") == 77
    assert bytes_to_download(replace(MODEL, download_bytes=None), "model") is None
    hub_telling(monkeypatch, {"config.json": 1, "model.safetensors": None})
    assert bytes_to_download(MODEL, "model") == 77
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *a, **k: pytest.fail("asked the hub")
    )
    assert bytes_to_download(MODEL, "model") == 77


def test_a_pair_that_is_here_needs_nothing() -> None:
    assert pair_downloads(load_pair("demo")) == []


def test_a_pair_of_the_hub_is_told_part_by_part(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_silent(monkeypatch)
    found = pair_downloads(PUBLISHED)
    assert [(d.what, d.size_bytes is None) for d in found] == [
        ("receiver", False),
        ("sharer", False),
        ("fuser", True),
    ]
    assert describe_downloads(found).startswith(
        "at least 2.5 GB (receiver 1.5 GB, sharer 1.0 GB, fuser of unkn"
    )
    assert list(hub_cache.iterdir()) == []


def test_what_cannot_be_downloaded_is_an_error(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LatentWireError, match="offline mode is set"):
        pair_downloads(PUBLISHED)
    gone = replace(load_pair("demo"), sharer=FileSource(path=Path("/nowhere")))
    with pytest.raises(LatentWireError, match="the model's folder /nowhere does not exist"):
        pair_downloads(gone)


def test_words_for_sizes() -> None:
    assert describe_downloads([]) == "nothing"
    assert describe_downloads([Download("fuser", None)]) == "fuser of unknown size"
    assert describe_downloads([Download("fuser", 2_500_000)]) == "about 2.5 MB (fuser 2.5 MB)"
