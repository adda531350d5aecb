"""What a pair is: a receiver, a sharer, the fuser trained for them, and how a file says so."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from c2c.paired_prompts import ALIGNMENTS, OFF
from latentwire.errors import LatentWireError
from latentwire.strict_yaml import StrictMapping
from latentwire.user_files import user_path

UNTRAINED_SEED = 0  # of weights that nobody trained
# Of two tokenizers, where the pair's file names none: what the published evaluation's configuration
# has.
DEFAULT_ALIGNMENT = "longest"


@dataclass(frozen=True)
class FileSource:
    """Where a model or a fuser is: on the Hugging Face hub, or in a local folder. One of the two.

    A fuser on the hub is a folder of its repository; a model is the whole repository.
    """

    repo: str | None = None
    revision: str | None = None  # commit, tag or branch; None: the repository's default branch
    subfolder: str | None = None  # fusers only
    path: Path | None = None
    sha256: str | None = None  # of the files, as `hash_files` makes it; None: whatever is there
    download_bytes: int | None = None  # about what there is to download, where the hub is not asked

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        place = f"{self.repo}/{self.subfolder}" if self.subfolder else f"{self.repo}"
        return f"{place} at {self.revision}" if self.revision else place


@dataclass(frozen=True)
class Pair:
    """A receiver, a sharer and the fuser between them; None where it is still to be trained, and
    where `interface` names one that needs no weights."""

    name: str
    description: str
    receiver: FileSource
    sharer: FileSource
    fuser: FileSource | None
    datasets: tuple[str, ...]  # evaluated when the user names none
    shared_tokenizer: bool  # both models read the same token ids
    interface: str | None = None  # of a pair without a fuser
    untrained: bool = False  # of the fuser, size and gates alone are taken: a control
    # One of ALIGNMENTS, where each model has a tokenizer of its own; "": nothing is aligned.
    alignment: str = ""


def parse_pair(values: object, file: Path) -> Pair:
    """A pair from a YAML file's values; local paths are relative to the file.

    Raises `LatentWireError` naming the file and the key for an unknown or missing key, a value of
    another type, or a dataset that there is not.
    """
    keys = StrictMapping(values, file, "")
    pair = Pair(
        name=keys.text("name"),
        description=keys.text("description"),
        receiver=_parse_source(keys.take("receiver"), file, "receiver", fuser=False),
        sharer=_parse_source(keys.take("sharer"), file, "sharer", fuser=False),
        fuser=(
            _parse_source(keys.take("fuser"), file, "fuser", fuser=True)
            if keys.has("fuser")
            else None
        ),
        datasets=keys.dataset_names("datasets") if keys.has("datasets") else (),
        shared_tokenizer=keys.truth("shared_tokenizer"),
        interface=keys.text("interface") if keys.has("interface") else None,
        alignment=keys.one_of("alignment", (*ALIGNMENTS, OFF)) if keys.has("alignment") else "",
    )
    if pair.shared_tokenizer and pair.alignment:
        raise LatentWireError(
            f"{file}: key 'alignment' is for two tokenizers: leave it out, or say"
            " 'shared_tokenizer: false'"
        )
    if not pair.shared_tokenizer:
        pair = replace(pair, alignment=aligned_by(pair.alignment or DEFAULT_ALIGNMENT))
    if pair.fuser and pair.interface:
        raise LatentWireError(
            f"{file}: give 'fuser' or 'interface': a fuser's files name its interface"
        )
    keys.finish()
    return pair


def aligned_by(said: str) -> str:
    """`Pair.alignment` where a file or a line says so: "" for OFF."""
    return "" if said == OFF else said


def require_alignment(pair: Pair, inserts: bool) -> None:
    """LatentWireError where the prompts of two tokenizers are aligned and the interface `inserts`
    messages, which no token of the receiver's takes; or where they are not, and it merges them."""
    if not pair.shared_tokenizer and inserts == bool(pair.alignment):
        why, say = "merges caches token by token", f"one of {', '.join(ALIGNMENTS)}"
        if inserts:
            why, say = "puts the message before the prompt, so that no tokens belong together", OFF
        raise LatentWireError(
            f"pair {pair.name} has two tokenizers, and its interface {why}: give 'alignment: {say}'"
            " in the pair's file"
        )


def _parse_source(values: object, file: Path, key: str, fuser: bool) -> FileSource:
    keys = StrictMapping(values, file, key)
    if keys.has("path"):
        if keys.has("repo"):
            raise LatentWireError(f"{file}: '{key}' gives both 'repo' and 'path'; give one")
        source = FileSource(path=user_path(keys.text("path"), file.parent).resolve())
    elif keys.has("repo"):
        source = FileSource(
            repo=keys.text("repo"),
            subfolder=keys.text("subfolder") if fuser else None,
            revision=keys.text("revision") if keys.has("revision") else None,
        )
        if keys.has("download_bytes"):
            source = replace(source, download_bytes=keys.count("download_bytes"))
    else:
        raise LatentWireError(f"{file}: '{key}' needs 'repo' (on the Hugging Face hub) or 'path'")
    if keys.has("sha256"):
        source = replace(source, sha256=_parse_sha256(keys, file, key))
    keys.finish()
    return source


def _parse_sha256(keys: StrictMapping, file: Path, key: str) -> str:
    digest = keys.text("sha256")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise LatentWireError(f"{file}: '{key}.sha256' must be 64 hexadecimal digits")
    return digest
