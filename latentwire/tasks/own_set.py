"""A user's own question set: a file of rows, and beside it, where fields have other names than the
hub's, a YAML file that says which they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from c2c.files import open_file
from latentwire.errors import LatentWireError
from latentwire.strict_json import parse_json
from latentwire.strict_yaml import StrictMapping, read_yaml
from latentwire.tasks.dataset import Dataset, build_dataset
from latentwire.tasks.file_kinds import BEFORE_KIND, KINDS, MULTIPLE_CHOICE, ROLES, Named, full_name
from latentwire.tasks.file_rows import MOST_BYTES, is_rows_file, read_rows, stem
from latentwire.tasks.registry import AS_TASK, TASKS
from latentwire.tasks.rows import Row, Source
from latentwire.user_files import user_path

MESSAGES = "messages"  # the field of a chat
_NAME = re.compile(r"\w[\w .()+-]{0,79}")


@dataclass(frozen=True)
class FileSplit:
    """The file that a set's rows are read from; see `Source`."""

    path: Path
    label: str = ""

    expected = None
    on_hub = False

    def read(self, data_dir: Path | None, download: bool = True) -> tuple[list[Row], str]:
        """See `Source`; the file is the user's, whatever folder holds downloads."""
        return read_rows(self.path), str(self.path)


@dataclass(frozen=True)
class NoTraining:
    """In place of training questions that nobody has named; see `Source`."""

    set_file: Path

    label = "training"
    expected = None
    on_hub = False

    def read(self, data_dir: Path | None, download: bool = True) -> tuple[list[Row], str]:
        """LatentWireError: there are none."""
        raise LatentWireError(
            f"{self.set_file} has no questions that are never scored: name a file of such with"
            f" `training:` in {_yaml_beside(self.set_file).name} beside it"
        )


@dataclass(frozen=True)
class _About:
    """What the YAML file says."""

    name: str
    kind: str | None
    named: Named
    training: Path | None


def is_own_set(text: str) -> bool:
    """Whether a text means a file of questions, there or not: what ends as one, or holds a
    slash."""
    return is_rows_file(Path(text)) or "/" in text


def own_set(text: str) -> Dataset:
    """Read a user's question set, whole. A malformed row is left out, with a warning.

    Raises LatentWireError for a file or a YAML file beside it that cannot be read, for a name that
    a known set has, and where no row is a question.
    """
    path = user_path(text)
    if path.suffix in (".yaml", ".yml"):
        raise LatentWireError(f"{path}: name the file of questions; a YAML file beside it is read")
    rows = read_rows(path)
    about = _about(path)
    named = about.named.completed(rows)
    kind = about.kind or _kind(path, named)
    like = TASKS[AS_TASK[kind]]
    training: Source = FileSplit(about.training, "training") if about.training else NoTraining(path)
    task = KINDS[kind](
        name=full_name(about.name, kind),
        test=FileSplit(path),
        training=training,
        version=like.version,
        named=named,
    )
    return build_dataset(task, rows, str(path))


def holds_chats(path: Path) -> bool:
    """Whether a file's rows are chats, with `messages`; so, too, where its first row shows nothing:
    who reads chats says what is wrong."""
    try:
        with open_file(path) as file:
            first = file.readline(MOST_BYTES).lstrip()
        row = [] if first.startswith(b"[") else parse_json(first.decode())
    except (OSError, ValueError):
        return True
    return isinstance(row, dict) and (MESSAGES in row or not row)


def require_apart(sets: Sequence[object]) -> None:
    """Raise LatentWireError where two sets would have one name in tables."""
    names = [str(each) for each in sets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise LatentWireError(
            f"two question sets are called {twice}: give one another `name:` in a YAML file beside"
            " it"
        )


def _yaml_beside(path: Path) -> Path:
    return path.with_name(stem(path) + ".yaml")


def _about(path: Path) -> _About:
    beside = _yaml_beside(path)
    if not beside.is_file():
        return _About(_checked_name(stem(path), beside, "the file's name"), None, Named(), None)
    keys = StrictMapping(read_yaml(beside), beside, "")
    name = keys.text("name") if keys.has("name") else stem(path)
    kind = keys.one_of("kind", tuple(KINDS)) if keys.has("kind") else None
    paths = tuple((role, _field(keys, role)) for role in ROLES if keys.has(role))
    named = Named(paths, _first_number(keys) if keys.has("answers_from") else 0)
    training = user_path(keys.text("training"), path.parent) if keys.has("training") else None
    keys.finish()
    return _About(_checked_name(name, beside, "the name"), kind, named, training)


def _field(keys: StrictMapping, role: str) -> str | tuple[str, ...]:
    """The field of a role; of choices, a list with one a choice may be given."""
    value = keys.take(role)
    if role == "choices" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if not isinstance(value, str) or not value:
        raise keys.wrong(role, "the name of a field", value)
    return value


def _first_number(keys: StrictMapping) -> int:
    value = keys.take("answers_from")
    if type(value) is not int or value not in (0, 1):
        raise keys.wrong("answers_from", "0 or 1", value)
    return value


def _checked_name(name: str, beside: Path, what: str) -> str:
    """A name for tables. LatentWireError for one that is known, or that no table takes."""
    if name in TASKS:
        raise LatentWireError(
            f"{what} {name!r} is a known question set's: give another with `name:` in {beside}"
        )
    if not _NAME.fullmatch(name) or BEFORE_KIND in name:
        raise LatentWireError(
            f"{what} {name[:80]!r} must be letters, digits, blanks and . ( ) + - _, at most 80:"
            f" give another with `name:` in {beside}"
        )
    return name


def _kind(path: Path, named: Named) -> str:
    """The kind that the fields show. LatentWireError where they show none."""
    if named.has("choices"):
        return MULTIPLE_CHOICE
    if named.has("context"):
        return "extractive"
    raise LatentWireError(
        f"{path}: its rows have neither choices nor a context: say which fields they have, and"
        f" their kind ({', '.join(KINDS)}), in {_yaml_beside(path)}"
    )
