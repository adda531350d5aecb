"""A pair in one line: `receiver=MODEL,sharer=MODEL,fuser=FOLDER_OR_REPOSITORY`."""

import re

from c2c.paired_prompts import ALIGNMENTS, OFF
from latentwire.errors import LatentWireError, quoted
from latentwire.pairs.pair import FileSource, Pair, aligned_by
from latentwire.user_files import user_path

FORM = "receiver=MODEL,sharer=MODEL,fuser=FOLDER_OR_REPOSITORY"
_KEYS = ("receiver", "sharer", "fuser", "interface", "alignment", "name")
_ON_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_FUSER_ON_HUB = re.compile(r"(\w[\w.-]*/\w[\w.-]*)/(\w[\w.+/-]*)")


def inline_pair(text: str) -> Pair:
    """The pair that a line describes, called RECEIVER+SHARER unless it has a `name`.

    `fuser` may be left out for a pair that is to be trained, or for one with an `interface` that
    needs no weights; `alignment` is for models with a tokenizer each. No path may hold a comma.

    Raises LatentWireError for a line of another form, and for a folder that is not there.
    """
    parts = [part.partition("=") for part in text.split(",")]
    given = {key.strip(): value.strip() for key, _, value in parts}
    if wrong := [key.strip() for key, _, value in parts if key.strip() not in _KEYS or not value]:
        raise _malformed(text, f"{quoted(wrong[0])} is not one of {', '.join(_KEYS)} with a value")
    if len(given) < len(parts):
        raise _malformed(text, "a key stands twice")
    if missing := [key for key in ("receiver", "sharer") if key not in given]:
        raise _malformed(text, f"it names no {missing[0]}")
    if "fuser" in given and "interface" in given:
        raise _malformed(text, "give fuser or interface: a fuser's files name its interface")
    known = *ALIGNMENTS, OFF
    if given.get("alignment", OFF) not in known:
        raise _malformed(text, f"alignment is one of {', '.join(known)}")
    receiver, sharer = (model_source(given[key], f"{key}=") for key in ("receiver", "sharer"))
    return Pair(
        name=given.get("name") or f"{name_of(receiver)}+{name_of(sharer)}",
        description=f"{name_of(receiver)} receives from {name_of(sharer)}",
        receiver=receiver,
        sharer=sharer,
        fuser=_fuser_source(given["fuser"]) if "fuser" in given else None,
        datasets=(),
        shared_tokenizer="alignment" not in given,
        interface=given.get("interface"),
        alignment=aligned_by(given.get("alignment", "")),
    )


def model_source(text: str, said: str) -> FileSource:
    """A model of a folder that is there, else of the hub; `said` stands before it in messages."""
    folder = user_path(text)
    if folder.is_dir():
        return FileSource(path=folder.resolve())
    if _ON_HUB.fullmatch(text):
        return FileSource(repo=text)
    raise LatentWireError(
        f"pair {quoted(said + text)}: there is no such folder; give {said}FOLDER, or"
        f" {said}OWNER/MODEL for a model of the hub"
    )


def name_of(source: FileSource) -> str:
    """A model's name wherever it lies: of a folder the last part, else the hub's."""
    return source.path.name if source.path else str(source.repo)


def _fuser_source(text: str) -> FileSource:
    folder = user_path(text)
    if folder.is_dir():
        return FileSource(path=folder.resolve())
    if found := _FUSER_ON_HUB.fullmatch(text):
        return FileSource(repo=found[1], subfolder=found[2].strip("/"))
    raise LatentWireError(
        f"fuser={quoted(text)}: there is no such folder; give a folder that holds"
        " projector_config.json, or OWNER/REPOSITORY/FOLDER of the hub"
    )


def _malformed(text: str, reason: str) -> LatentWireError:
    return LatentWireError(f"pair {quoted(text)}: {reason}; write {FORM}")


def is_inline(text: str) -> bool:
    """Whether a text is meant as a pair in one line."""
    return text.startswith(tuple(f"{key}=" for key in _KEYS))
