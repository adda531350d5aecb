"""What identifies a pair in fingerprints."""

import hashlib
import shutil
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.pairs.identity import (
    combined_identity,
    file_sha256,
    hash_files,
    manifest,
    pair_identity,
)
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import LocatedPair
from latentwire.session import pair_in_use

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


def test_a_snapshot_that_was_changed_by_hand_is_named_by_its_files(
    located: LocatedPair, tmp_path: Path
) -> None:
    """A cache links to blobs; small ones are named by git's hash of their content."""
    snapshot, blobs = tmp_path / "m" / "snapshots" / COMMIT, tmp_path / "m" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in located.receiver.iterdir():
        content = path.read_bytes()
        weights = path.suffix == ".safetensors"  # stored elsewhere, named by sha256
        name = (
            hashlib.sha256(content).hexdigest()
            if weights
            else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        )
        (blobs / name).write_bytes(content)
        (snapshot / path.name).symlink_to(blobs / name)
    here = LocatedPair(snapshot, located.sharer, located.fuser)
    assert pair_identity(here)["receiver"] == f"commit:{COMMIT}"
    template = snapshot / "chat_template.jinja"
    blob = template.resolve()
    kept = blob.read_bytes()
    blob.write_bytes(b"another template")  # through the link, as an editor writes
    first = pair_identity(here)["receiver"]
    blob.write_bytes(kept)
    assert pair_identity(here)["receiver"] == f"commit:{COMMIT}"
    template.unlink()
    template.write_bytes(b"a third template")  # in the link's place, as `sed -i` writes
    second = pair_identity(here)["receiver"]
    assert first.startswith("sha256:") and second.startswith("sha256:") and first != second


# Pinned: results are found again by it, so it may not change between versions.
HASH_OF_TWO = "ee325c5db78c5411fc08de904f5eb907ac60fd48cb28cd901ab170dca3244429"


def test_names_and_contents_count(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("y")
    (tmp_path / "a.json").write_text("x")
    assert hash_files(tmp_path, ["*.json", "a.*"]) == HASH_OF_TWO
    (tmp_path / "a.json").rename(tmp_path / "0.json")
    assert hash_files(tmp_path, ["*.json"]) != HASH_OF_TWO


def test_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=f"{tmp_path}: no files to identify it by"):
        hash_files(tmp_path, ["*.json"])


def test_combined_identity_depends_on_every_part() -> None:
    parts = {"receiver": "commit:a", "sharer": "commit:b", "fuser": "sha256:c"}
    combined = combined_identity(parts)
    assert combined_identity(dict(reversed(parts.items()))) == combined
    for part in parts:
        assert combined_identity({**parts, part: "other"}) != combined
    assert combined_identity({**parts, "receiver": "commit:b", "sharer": "commit:a"}) != combined


def test_manifest_lists_every_file_that_is_loaded(located: LocatedPair, tmp_path: Path) -> None:
    # As in the hub's cache: weights are links to blobs named by their own hash, not read again.
    blob = tmp_path / ("0123" * 16)
    blob.write_text("weights")
    (located.sharer / "model.safetensors").unlink()
    (located.sharer / "model.safetensors").symlink_to(blob)
    files = manifest(located)
    assert list(files) == ["receiver", "sharer", "fuser"]
    assert set(files["fuser"]) == {"projector_config.json", "projector_0.json", "projector_0.pt"}
    assert files["sharer"]["model.safetensors"] == {"bytes": 7, "sha256": blob.name}
    content = b"receiver config.json"
    assert files["receiver"]["config.json"] == {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_a_pair_in_use_reads_each_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(pair_in_use, "file_sha256", counted)
    files = pair_in_use.PairInUse(load_pair("demo"), "cpu", "float32", may_download=False)
    assert files.of_files and files.manifest() == manifest(files.located)
    assert sorted(read) == sorted(set(read)) != []
