"""Where a split's rows come from: a file of JSON lines, or the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from latentwire.errors import LatentWireError, NotHere, first_line, uncached
from latentwire.strict_json import parse_json
from latentwire.user_files import NotTextError, decoded, read_bytes

Row = tuple[str, object]
"""A row, after the place that names it in messages."""


@dataclass(frozen=True)
class HubSplit:
    """One split of a dataset on the Hugging Face hub."""

    repo: str
    config: str
    split: str

    def __str__(self) -> str:
        return f"{self.repo} ({self.config}, {self.split})"


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
    with `download` false, the cache alone is read.

    Raises `LatentWireError` when the dataset cannot be had; as `NotHere` with `download` false.
    """
    import datasets  # takes seconds, and is not needed where a folder is given

    try:
        with nullcontext() if download else _offline():
            rows = list(datasets.load_dataset(hub.repo, hub.config, split=hub.split))
    # The libraries below raise many unrelated types here, and the remedy is the same for all.
    except Exception as error:
        cache = datasets.config.HF_DATASETS_CACHE
        reason = uncached(error, "HF_HOME", cache) or first_line(error).rstrip(".")
        raise (LatentWireError if download else NotHere)(
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


def read_published(
    hub: HubSplit, file: str, data_dir: Path | None, download: bool = True
) -> tuple[list[Row], str]:
    """The rows of a published split and where they were read: the folder, or the hub without one.

    `file` is the split's place in a data folder.

    Raises `LatentWireError` when the rows cannot be had.
    """
    if data_dir is not None:
        return read_json_lines(data_dir / file), str(data_dir / file)
    try:
        return read_hub_rows(hub, download), str(hub)
    except LatentWireError as error:
        raise type(error)(
            f"{error}; without a network, give data_dir, a folder that holds {file}"
        ) from None
