"""A split's rows: where they come from (a file of JSON lines, or the Hugging Face hub), what they
must be, and their checked fields."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from latentwire import hub as the_hub
from latentwire.errors import LatentWireError, NotCached, first_line, uncached
from latentwire.strict_json import parse_json
from latentwire.user_files import NotTextError, decoded, read_bytes

_T = TypeVar("_T")
Row = tuple[str, object]
"""A row, after the place that names it in messages."""


@dataclass(frozen=True)
class Expected:
    """What a published set must hold, wherever it was read from."""

    rows: int  # all rows of the split
    scored: int
    hash: str | None = None  # see `dataset.content_hash`; None: no copy was at hand to take it of


class Source(Protocol):
    """One split of a dataset and where it is read."""

    @property
    def label(self) -> str:
        """What the split is called behind its dataset's name, where it is not the scored one."""

    @property
    def expected(self) -> Expected | None:
        """What it must hold; None where that is not pinned."""

    @property
    def on_hub(self) -> bool:
        """Whether it may have to be downloaded."""

    def read(self, data_dir: Path | None, download: bool) -> tuple[list[Row], str]:
        """The rows, and where they were read. Raises `LatentWireError` when they cannot be had."""


@dataclass(frozen=True)
class HubSplit:
    """One split of a dataset on the Hugging Face hub."""

    repo: str
    config: str
    split: str
    file: str  # its place in a data folder
    expected: Expected | None = None

    on_hub = True

    @property
    def label(self) -> str:
        """See `Source`."""
        return {"train": "training"}.get(self.split, self.split)

    def __str__(self) -> str:
        return f"{self.repo} ({self.config}, {self.split})"

    def read(self, data_dir: Path | None, download: bool = True) -> tuple[list[Row], str]:
        """See `Source`: from the folder, or from the hub without one."""
        if data_dir is not None:
            return read_json_lines(data_dir / self.file), str(data_dir / self.file)
        try:
            return read_hub_rows(self, download), str(self)
        except LatentWireError as error:
            raise type(error)(
                f"{error}; without a network, give data_dir, a folder that holds {self.file}"
            ) from None


@dataclass(frozen=True)
class HubConfigs(HubSplit):
    """A split whose rows the hub has in several configurations, here one behind the other."""

    configs: tuple[str, ...] = ()

    def read(self, data_dir: Path | None, download: bool = True) -> tuple[list[Row], str]:
        """See `Source`."""
        if data_dir is not None:
            return super().read(data_dir, download)
        parts = [
            HubSplit(self.repo, config, self.split, self.file).read(None, download)[0]
            for config in self.configs
        ]
        return [row for part in parts for row in part], str(self)


def read_json_lines(path: Path) -> list[Row]:
    """Read one JSON value a line, in UTF-8 or what the mark at the file's beginning says; empty
    lines at its end are nothing.

    Raises `LatentWireError` for a file that cannot be read, and for a line that is not of its
    encoding or not JSON, by file and line.
    """
    # Only line feeds end a line: text may hold other characters that Python counts as line ends.
    try:
        lines = decoded(read_bytes(path)).rstrip(" \t\r\n").split("\n")
    except NotTextError as error:
        raise LatentWireError(f"{path}, line {error.line}: {error}: save it as UTF-8") from None
    rows: list[Row] = []
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        place = f"{path}, line {number}"
        try:
            rows.append((place, parse_json(line)))
        except ValueError as error:
            raise LatentWireError(f"{place}: not JSON ({error})") from None
    return rows


def read_hub_rows(hub: HubSplit, download: bool = True) -> list[Row]:
    """Read a split of a dataset on the Hugging Face hub, or of its local cache.

    `HF_HOME`, `HF_HUB_OFFLINE` and `HF_DATASETS_OFFLINE` act as they do everywhere in `datasets`;
    with `download` false, or where the hub cannot be reached, the cache alone is read.

    Raises `LatentWireError` when the dataset cannot be had; as `NotCached` with `download` false.
    """
    import datasets  # takes seconds, and is not needed where a folder is given

    silent = download and not (datasets.config.HF_HUB_OFFLINE or the_hub.answers())
    try:
        with nullcontext() if download and not silent else _offline():
            rows = list(datasets.load_dataset(hub.repo, hub.config, split=hub.split))
    # The libraries below raise many unrelated types here, and the remedy is the same for all.
    except Exception as error:
        cache = datasets.config.HF_DATASETS_CACHE
        said = "the hub cannot be reached" if silent else first_line(error).rstrip(".")
        reason = uncached(error, "HF_HOME", cache) or said
        raise (LatentWireError if download else NotCached)(
            f"{hub} could not be had from the Hugging Face hub or its cache ({reason})"
        ) from None
    return [(f"{hub}, row {number}", row) for number, row in enumerate(rows)]


@contextmanager
def _offline() -> Iterator[None]:
    """Within the block, `datasets` and the hub's client use what is in their caches."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


class RowFields:
    """A row's fields, each checked; ValueError says which is wrong and how."""

    def __init__(self, row: dict[str, Any], within: str = "") -> None:
        self._row, self._within = row, within

    def value(self, name: str) -> Any:
        """A field as it stands."""
        if name not in self._row:
            raise ValueError(f"field '{self._within}{name}' is missing")
        return self._row[name]

    def text(self, name: str) -> str:
        """A field that must hold text."""
        return self._checked(self.value(name), name)

    def integer(self, name: str) -> int:
        """A field that must hold a whole number."""
        value = self.value(name)
        if type(value) is not int:
            raise self.wrong(name, "be a whole number", value)
        return value

    def texts(self, name: str) -> list[str]:
        """A field that must hold a list of texts."""
        values = self.value(name)
        if not isinstance(values, list):
            raise self.wrong(name, "be a list", values)
        return [self._checked(value, f"{name}[{i}]") for i, value in enumerate(values)]

    def within(self, name: str) -> "RowFields":
        """The fields of a field."""
        value = self.value(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "hold named fields", value)
        return RowFields(value, f"{self._within}{name}.")

    def one_of(self, name: str, allowed: Mapping[Any, _T]) -> _T:
        """What `allowed` has for a field's value; 1 is not true here."""
        value = self.value(name)
        for known, found in allowed.items():
            if type(value) is type(known) and value == known:
                return found
        raise ValueError(
            f"field '{self._within}{name}' must be one of"
            f" {', '.join(map(str, allowed))}, got {str(value)[:40]!r}"
        )

    def wrong(self, name: str, must: str, value: object) -> ValueError:
        """What is wrong with a field that must be something else."""
        return ValueError(f"field '{self._within}{name}' must {must}, got {kind_of(value)}")

    def _checked(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            raise self.wrong(name, "be text", value)
        if not value.strip():
            raise ValueError(f"field '{self._within}{name}' is empty")
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            raise ValueError(
                f"field '{self._within}{name}' holds characters that are not text"
            ) from None
        return value


def kind_of(value: object) -> str:
    """What a JSON value is."""
    return "null" if value is None else type(value).__name__
