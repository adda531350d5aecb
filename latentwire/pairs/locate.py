"""Finding a pair's files on this machine, downloading those that are not there."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentwire import hub
from latentwire.errors import LatentWireError, NotCached, uncached
from latentwire.pairs.pair import FileSource, Pair
from latentwire.user_files import path_of, user_path

Kind = Literal["model", "fuser"]

log = logging.getLogger("latentwire")

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
"""Weights, configurations, tokenizer and chat template: all that a model is loaded from."""

_NOT_MODEL_FILES = ("*/*",)  # second copies in other formats, such as Llama's original/
_FUSER_FILES = ("*.json", "*.pt")

# Without these, what was found cannot be loaded.
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "model": ("config.json", "*.safetensors"),
    "fuser": ("projector_config.json", "projector_0.json", "projector_0.pt"),
}


@dataclass(frozen=True)
class LocatedPair:
    """The folders that hold a pair's files."""

    receiver: Path
    sharer: Path
    fuser: Path | None  # None where the pair has none yet


def locate_pair(pair: Pair, download: bool = True) -> LocatedPair:
    """The folders of a pair's models and fuser; the fuser, smallest, first.

    What is not here is downloaded, unless `download` is false.

    Raises `LatentWireError` for files that cannot be had.
    """
    fuser = locate(pair.fuser, "fuser", download) if pair.fuser else None
    receiver = locate(pair.receiver, "model", download)
    return LocatedPair(receiver, locate(pair.sharer, "model", download), fuser)


def locate(source: FileSource, kind: Kind, download: bool = True) -> Path:
    """The folder of a model or a fuser.

    A local path is taken as it is. A fuser of the hub is looked for in `$C2C_CKPT_ROOT` first,
    under its subfolder's name. Otherwise the files come from the hub into its cache (`HF_HOME`),
    or from that cache alone where `HF_HUB_OFFLINE` is set; only what is needed is downloaded.

    Raises `LatentWireError` when the files cannot be had, with the reason and what to do; as
    `NotCached` where they are the hub's and only not to be downloaded.
    """
    local = _local_folder(source, kind)
    folder = local or _from_hub(source, kind, download)
    missing = [name for name in _NEEDED[kind] if not any(map(Path.is_file, folder.glob(name)))]
    missing += missing_shards(folder)
    if missing:
        sentence = f"the {kind} in {folder} is incomplete: no {', '.join(missing)}"
        raise LatentWireError(sentence) if local or download else NotCached(sentence)
    return folder


def missing_shards(folder: Path) -> list[str]:
    """Weight files that a model's index names and that are not in its folder.

    Raises `LatentWireError` for an index that cannot be read.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return []
    try:
        names = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LatentWireError(f"{index} cannot be read as an index of weights: {error}") from None
    return sorted(name for name in names if not (folder / name).exists())


def parts_of(pair: Pair) -> tuple[tuple[str, FileSource, Kind], ...]:
    """(name, source, kind) of receiver, sharer and, where there is one, fuser."""
    models: tuple[tuple[str, FileSource, Kind], ...] = (
        ("receiver", pair.receiver, "model"),
        ("sharer", pair.sharer, "model"),
    )
    return (*models, ("fuser", pair.fuser, "fuser")) if pair.fuser else models


def bytes_to_download(source: FileSource, kind: Kind) -> int | None:
    """What of a hub source is not in the cache yet, in bytes, as the hub's API tells it.

    Where the hub cannot be asked: the pair's own figure, or None where it gives none.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    assert source.repo is not None
    if hub.is_offline():
        return source.download_bytes
    try:
        info = HfApi().model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=hub.TIMEOUT_S
        )
    except Exception as error:  # the network, the hub and its client have errors of their own
        log.debug("%s: its size cannot be asked: %s", source, error)
        return source.download_bytes
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    allow, ignore = _patterns(source, kind)
    wanted = filter_repo_objects(sizes, allow_patterns=allow, ignore_patterns=ignore)
    missing = [
        sizes[name]
        for name in wanted
        if not isinstance(try_to_load_from_cache(source.repo, name, revision=info.sha), str)
    ]
    known = [size for size in missing if size is not None]
    return sum(known) if len(known) == len(missing) else source.download_bytes


def _patterns(source: FileSource, kind: Kind) -> tuple[list[str], list[str] | None]:
    """Which of a repository's files are wanted, and which of those are not."""
    allow: tuple[str, ...] = _FUSER_FILES if kind == "fuser" else MODEL_FILES
    if source.subfolder:
        allow = tuple(f"{source.subfolder}/{name}" for name in allow)
    return list(allow), None if source.subfolder else list(_NOT_MODEL_FILES)


def _local_folder(source: FileSource, kind: Kind) -> Path | None:
    if source.path is not None:
        if not source.path.is_dir():
            raise LatentWireError(f"the {kind}'s folder {source.path} does not exist")
        return source.path
    root = path_of("C2C_CKPT_ROOT")
    if kind == "fuser" and root and source.subfolder:
        folder = user_path(source.subfolder, root)
        if folder.is_dir():
            return folder
    return None


def _from_hub(source: FileSource, kind: Kind, download: bool) -> Path:
    # Imported here: it reads HF_HOME and HF_HUB_OFFLINE once, when it is first imported.
    from huggingface_hub import snapshot_download

    assert source.repo is not None
    allow, ignore = _patterns(source, kind)
    try:
        snapshot = snapshot_download(
            source.repo,
            revision=source.revision,
            local_files_only=not (download and hub.answers()),
            allow_patterns=allow,
            ignore_patterns=ignore,
        )
    # httpx, the token store, the disk and the hub's client each raise types of their own.
    except Exception as error:
        sentence = f"the {kind} {source} could not be had: {_reason(error, source, download)}"
        raise (LatentWireError if download else NotCached)(sentence) from None
    folder = Path(snapshot) / (source.subfolder or "")
    if not folder.is_dir():
        raise (LatentWireError if download else NotCached)(
            f"the {kind} {source} is not in the snapshot {snapshot}; check its subfolder, or go "
            "online to complete it"
        )
    return folder


def _reason(error: Exception, source: FileSource, download: bool) -> str:
    from huggingface_hub import constants, errors

    # A name of the hub may have been meant as a folder's.
    no_folder = "" if source.subfolder else "no folder here is called so, "

    if isinstance(error, errors.GatedRepoError):
        return (
            "its repository is gated; accept its terms on huggingface.co and log in with "
            "`hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{no_folder}{'and ' if no_folder else ''}the hub has no such repository, or it is"
            " private and needs HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "its repository has no such revision"
    if isinstance(error, errors.LocalEntryNotFoundError) and not download:
        return f"it is not wholly in the cache {constants.HF_HUB_CACHE} yet"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return (
                f"{no_folder}offline mode is set (HF_HUB_OFFLINE) and it is not wholly in the"
                f" cache {constants.HF_HUB_CACHE}; fetch it once online, or give its path"
            )
        return (
            f"{no_folder}the Hugging Face hub cannot be reached and it is not wholly in the cache "
            f"{constants.HF_HUB_CACHE}; check the network, or give its path"
        )
    if download and (refused := uncached(error, "HF_HOME", constants.HF_HUB_CACHE)):
        return refused
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
