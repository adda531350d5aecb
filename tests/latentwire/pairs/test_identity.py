"""What identifies a pair in fingerprints."""

import shutil
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.pairs.identity import hash_files, pair_identity
from latentwire.pairs.locate import LocatedPair

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def located(tmp_path: Path) -> LocatedPair:
    """Two local models and a fuser."""
    for model in ("receiver", "sharer"):
        (tmp_path / model).mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
            (tmp_path / model / name).write_text(f"{model} {name}")
    (tmp_path / "fuser").mkdir()
    for name in ("projector_config.json", "projector_0.json", "projector_0.pt"):
        (tmp_path / "fuser" / name).write_text(name)
    return LocatedPair(tmp_path / "receiver", tmp_path / "sharer", tmp_path / "fuser")


def test_identity_is_of_contents_and_not_of_places(located: LocatedPair, tmp_path: Path) -> None:
    moved = LocatedPair(
        *(
            Path(shutil.copytree(folder, tmp_path / "elsewhere" / folder.name))
            for folder in (located.receiver, located.sharer, located.fuser)
        )
    )
    (moved.receiver / "README.md").write_text("notes")
    (moved.fuser / "log.txt").write_text("notes")
    identity = pair_identity(located)
    assert pair_identity(moved) == identity
    assert list(identity) == ["receiver", "sharer", "fuser"]
    assert all(len(value) == len("sha256:") + 64 for value in identity.values())
    assert len(set(identity.values())) == 3


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("receiver", "config.json"),
        ("receiver", "model.safetensors"),
        ("sharer", "tokenizer.json"),
        ("sharer", "chat_template.jinja"),
        ("fuser", "projector_config.json"),
        ("fuser", "projector_0.json"),
        ("fuser", "projector_0.pt"),
    ],
)
def test_every_file_that_is_loaded_counts(located: LocatedPair, part: str, name: str) -> None:
    before = pair_identity(located)
    (getattr(located, part) / name).write_text("changed")
    after = pair_identity(located)
    assert {key for key in before if before[key] != after[key]} == {part}


def test_hub_snapshot_is_named_by_its_commit(located: LocatedPair, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--model" / "snapshots" / COMMIT
    shutil.copytree(located.receiver, snapshot)
    shutil.copytree(located.fuser, snapshot / "fuser")
    identity = pair_identity(LocatedPair(snapshot, located.sharer, snapshot / "fuser"))
    assert identity["receiver"] == f"commit:{COMMIT}"
    assert identity["fuser"] == pair_identity(located)["fuser"]


def test_names_count_and_hash_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("x")
    # Pinned: results are found again by it, so it may not change between versions.
    assert (
        hash_files(tmp_path, ["*.json", "a.*"])
        == "b393dd49e5e8fb459ebc93271d9a843ea4efa315c3472603d3870fd25a5deab8"
    )
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    assert (
        hash_files(tmp_path, ["*.json"])
        != "b393dd49e5e8fb459ebc93271d9a843ea4efa315c3472603d3870fd25a5deab8"
    )


def test_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=f"{tmp_path}: no files to identify it by"):
        hash_files(tmp_path, ["*.json"])
