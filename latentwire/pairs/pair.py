"""What a pair is: a receiver, a sharer, the fuser trained for them, and how a file says so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentwire.data.registry import dataset_names
from latentwire.errors import LatentWireError


@dataclass(frozen=True)
class Source:
    """Where a model or a fuser is: on the Hugging Face hub, or in a local folder. One of the two.

    A fuser on the hub is a folder of its repository; a model is the whole repository.
    """

    repo: str | None = None
    revision: str | None = None  # commit, tag or branch; None: the repository's default branch
    subfolder: str | None = None  # fusers only
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        place = f"{self.repo}/{self.subfolder}" if self.subfolder else f"{self.repo}"
        return f"{place} at {self.revision}" if self.revision else place


@dataclass(frozen=True)
class Pair:
    """A receiver, a sharer and the fuser between them."""

    name: str
    description: str
    receiver: Source
    sharer: Source
    fuser: Source
    datasets: tuple[str, ...]  # evaluated when the user names none
    shared_tokenizer: bool  # both models read the same token ids


def parse_pair(values: object, file: Path) -> Pair:
    """A pair from a YAML file's values; local paths are relative to the file.

    Raises `LatentWireError` naming the file and the key for an unknown or missing key, a value of
    another type, or a dataset that there is not.
    """
    keys = _Keys(values, file, "")
    pair = Pair(
        name=keys.text("name"),
        description=keys.text("description"),
        receiver=_parse_source(keys.take("receiver"), file, "receiver", fuser=False),
        sharer=_parse_source(keys.take("sharer"), file, "sharer", fuser=False),
        fuser=_parse_source(keys.take("fuser"), file, "fuser", fuser=True),
        datasets=keys.dataset_names("datasets"),
        shared_tokenizer=keys.truth("shared_tokenizer"),
    )
    keys.finish()
    return pair


def require_supported(pair: Pair) -> None:
    """Raise `LatentWireError` for a pair that can be described but not yet run."""
    if not pair.shared_tokenizer:
        raise LatentWireError(f"pair {pair.name}: different tokenizers are not supported yet")


def _parse_source(values: object, file: Path, key: str, fuser: bool) -> Source:
    keys = _Keys(values, file, key)
    if keys.has("path"):
        if keys.has("repo"):
            raise LatentWireError(f"{file}: '{key}' gives both 'repo' and 'path'; give one")
        source = Source(path=(file.parent / Path(keys.text("path")).expanduser()).resolve())
    elif keys.has("repo"):
        source = Source(
            repo=keys.text("repo"),
            subfolder=keys.text("subfolder") if fuser else None,
            revision=keys.text("revision") if keys.has("revision") else None,
        )
    else:
        raise LatentWireError(f"{file}: '{key}' needs 'repo' (on the Hugging Face hub) or 'path'")
    keys.finish()
    return source


class _Keys:
    """Takes the keys of a mapping one by one; what is left at the end is unknown."""

    def __init__(self, values: object, file: Path, within: str) -> None:
        self._file = file
        self._within = within
        if not isinstance(values, dict):
            what = f"'{within}'" if within else "the file"
            raise LatentWireError(f"{file}: {what} must hold keys and values, got {_kind(values)}")
        self._left: dict[Any, Any] = dict(values)

    def has(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str) -> Any:
        if key not in self._left:
            raise LatentWireError(f"{self._file}: key '{self._name(key)}' is missing")
        return self._left.pop(key)

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(key, "text", value)
        return value

    def truth(self, key: str) -> bool:
        value = self.take(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def dataset_names(self, key: str) -> tuple[str, ...]:
        values = self.take(key)
        known = dataset_names()
        if not isinstance(values, list) or not values:
            raise self._wrong(key, "a list of dataset names", values)
        for value in values:
            if value not in known:
                raise LatentWireError(
                    f"{self._file}: key '{self._name(key)}' names an unknown dataset {value!r}; "
                    f"known: {', '.join(known)}"
                )
        if len(set(values)) < len(values):
            raise LatentWireError(f"{self._file}: key '{self._name(key)}' names a dataset twice")
        return tuple(values)

    def finish(self) -> None:
        if self._left:
            unknown = ", ".join(f"'{self._name(key)}'" for key in self._left)
            raise LatentWireError(f"{self._file}: unknown key {unknown}")

    def _name(self, key: object) -> str:
        return f"{self._within}.{key}" if self._within else f"{key}"

    def _wrong(self, key: str, expected: str, value: object) -> LatentWireError:
        return LatentWireError(
            f"{self._file}: key '{self._name(key)}' must be {expected}, got {_kind(value)}"
        )


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"
