"""Cache folders, and the disk below them."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from huggingface_hub import constants

from latentwire.checks.caches import check_caches, check_disk
from latentwire.checks.downloads import Download
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError

Usage = namedtuple("Usage", "total used free")
MODEL = Download("receiver", 4 * 10**9)


def free(monkeypatch: pytest.MonkeyPatch, cache: Path, here: float, there: float) -> None:
    """So many GB are free here, and so many where the cache is."""

    def usage(path: Path) -> Usage:
        inside = Path(path).resolve().is_relative_to(cache.resolve())
        return Usage(10**12, 0, int((there if inside else here) * 1e9))

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_folders_that_are_there_and_writable_pass(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C2C_CKPT_ROOT", str(tmp_path))
    assert check_caches(uses_hub=True, to_download=True) == (
        f"HF_HOME {hub_cache}, C2C_CKPT_ROOT {tmp_path}"
    )
    assert list(hub_cache.iterdir()) == []


def test_a_cache_that_cannot_take_a_download_fails(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/proc/1/hub")
    with pytest.raises(LatentWireError, match="cannot be written"):
        check_caches(uses_hub=True, to_download=True)
    with pytest.raises(CheckWarning, match="only what is in it is used"):
        check_caches(uses_hub=True, to_download=False)
    assert "not needed" in check_caches(uses_hub=False, to_download=False)


def test_named_folders_that_are_not_there_are_doubted(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_cache.rmdir()
    monkeypatch.setenv("C2C_CKPT_ROOT", str(tmp_path / "typo"))
    with pytest.raises(CheckWarning) as doubt:
        check_caches(uses_hub=True, to_download=True)
    assert "hf is not there yet" in str(doubt.value)
    assert "typo is no folder" in str(doubt.value)


def test_room_for_runs_and_downloads(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, hub_cache, here=2, there=5)
    assert check_disk([]) == "2.0 GB free in the project folder, nothing to download"
    assert "to download: about 4.0 GB (receiver 4.0 GB)" in check_disk([MODEL])


def test_no_room_for_runs_fails(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, hub_cache, here=0.5, there=500)
    with pytest.raises(LatentWireError, match=r"0\.5 GB free in .*, where runs are kept"):
        check_disk([])


def test_no_room_for_the_download_fails(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, hub_cache, here=500, there=4.2)
    with pytest.raises(LatentWireError, match=r"4\.2 GB free in .*hub, .* which needs 4\.4 GB"):
        check_disk([MODEL])


def test_an_unknown_size_is_doubted(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, hub_cache, here=500, there=500)
    with pytest.raises(
        CheckWarning, match=r"at least 4\.0 GB \(receiver 4\.0 GB, fuser of unknown size"
    ):
        check_disk([MODEL, Download("fuser", None)])
