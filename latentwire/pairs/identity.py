"""What makes one pair the same as another: the content of its files, wherever they lie."""

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from latentwire.errors import LatentWireError
from latentwire.pairs.locate import MODEL_FILES, LocatedPair, parts_of
from latentwire.pairs.pair import Pair
from latentwire.user_files import read_bytes

_FUSER_FILES = ("projector_*.json", "projector_*.pt")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content; LatentWireError for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LatentWireError(f"{path}: cannot be read ({error.strerror})") from None


Hash = Callable[[Path], str]
"""`file_sha256`, or one that remembers what it has read."""


def pair_identity(located: LocatedPair, hashed: Hash = file_sha256) -> dict[str, str]:
    """What `receiver`, `sharer` and `fuser` are, for fingerprints.

    A model in the hub's cache is named by its commit, which spares reading many gigabytes; any
    other, and one whose files there were changed by hand, by the hash of its files: weights,
    configurations, tokenizer and chat template. The fuser, if there is one, is always hashed.

    Raises `LatentWireError` for a file that cannot be read.
    """
    folders = {located.receiver, located.sharer}  # one, where one model is at both ends
    models = {folder: _model_identity(folder, hashed) for folder in folders}
    identity = {"receiver": models[located.receiver], "sharer": models[located.sharer]}
    return identity | (fuser_identity(located.fuser, hashed) if located.fuser else {})


def fuser_identity(folder: Path, hashed: Hash = file_sha256) -> dict[str, str]:
    """What `pair_identity` says of a fuser."""
    return {"fuser": f"sha256:{hash_files(folder, _FUSER_FILES, hashed)}"}


def require_pinned(pair: Pair, identity: dict[str, str]) -> None:
    """Raise `LatentWireError` where the pair's file pins a hash and `identity` has another.

    A model that is named by its commit has no hash to compare.
    """
    for part in identity:
        wanted = getattr(pair, part).sha256
        kind, _, found = identity[part].partition(":")
        if wanted and kind == "sha256" and found != wanted:
            raise LatentWireError(_not_pinned(pair, part, wanted, found))


def compare_with_pins(pair: Pair, located: LocatedPair) -> list[str]:
    """The parts whose hashes the pair pins, each read whole and compared.

    Raises `LatentWireError` for one that is other than pinned.
    """
    pinned = []
    for part, source, kind in parts_of(pair):
        if source.sha256:
            patterns = _FUSER_FILES if kind == "fuser" else MODEL_FILES
            found = hash_files(getattr(located, part), patterns)
            if found != source.sha256:
                raise LatentWireError(_not_pinned(pair, part, source.sha256, found))
            pinned.append(part)
    return pinned


def _not_pinned(pair: Pair, part: str, wanted: str, found: str) -> str:
    return (
        f"the {part} is not the one that pair {pair.name} pins: sha256 {found[:12]} in place of"
        f" {wanted[:12]}; fetch it again, or correct the pair's file"
    )


def hash_files(folder: Path, patterns: Iterable[str], hashed: Hash = file_sha256) -> str:
    """sha256 (hex) over the names and contents of a folder's files that match, in name order.

    Raises `LatentWireError` when none matches or one cannot be read.
    """
    files = {path.name: path for pattern in patterns for path in folder.glob(pattern)}
    if not files:
        raise LatentWireError(f"{folder}: no files to identify it by")
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {hashed(files[name])}\n".encode())
    return total.hexdigest()


def _model_identity(folder: Path, hashed: Hash) -> str:
    # The hub's cache keeps a repository's files under snapshots/<commit>.
    in_cache = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    if in_cache and not _changed_in_cache(folder):
        return f"commit:{folder.name}"
    return f"sha256:{hash_files(folder, MODEL_FILES, hashed)}"


def _changed_in_cache(folder: Path) -> bool:
    """Whether a small file of a snapshot is not the commit's: put there, or written over.

    The cache links to blobs, small ones named by git's own hash. Without links (file systems that
    have none) nothing can be told.
    """
    files = [path for pattern in MODEL_FILES for path in folder.glob(pattern)]
    if not any(path.is_symlink() for path in files):
        return False
    for path in files:
        if not path.is_symlink():
            return True
        blob = path.resolve()
        if _COMMIT.fullmatch(blob.name) and blob.name != _git_hash(blob):
            return True
    return False


def _git_hash(path: Path) -> str:
    """Under which git keeps a file's content."""
    content = read_bytes(path)
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def combined_identity(identity: dict[str, str]) -> str:
    """One sha256 (hex) for what `pair_identity` and `prompting.beside_files` gave."""
    text = "\n".join(f"{part} {name}" for part, name in sorted(identity.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def manifest(
    located: LocatedPair, hashed: Hash = file_sha256
) -> dict[str, dict[str, dict[str, str | int]]]:
    """Part -> file -> size and hash: the files that a run's answers came from.

    Weights in the hub's cache are named by the hash under which the cache stores them.
    """
    parts = (
        ("receiver", located.receiver, MODEL_FILES),
        ("sharer", located.sharer, MODEL_FILES),
        ("fuser", located.fuser, _FUSER_FILES),
    )
    files: dict[str, dict[str, dict[str, str | int]]] = {}
    for part, folder, patterns in parts:
        if folder is None:
            continue
        if part == "sharer" and folder == located.receiver:
            files[part] = files["receiver"]
            continue
        files[part] = {}
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
            # Large files of the hub's cache are links to blobs named by their own sha256.
            name = path.resolve().name
            digest = name if _SHA256.fullmatch(name) else hashed(path)
            files[part][path.name] = {"bytes": path.stat().st_size, "sha256": digest}
    return files
