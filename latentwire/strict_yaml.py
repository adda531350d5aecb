"""Reading the YAML files that users write: every key is known, every value of its type."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from c2c.errors import printable, shortened
from latentwire.errors import LatentWireError, quoted
from latentwire.tasks.registry import task_names
from latentwire.user_files import read_text

MOST_BYTES = 2**18  # of a file: people write these
MOST_DEPTH = 50  # lists and mappings within each other; PyYAML's time grows with its square
MOST_VALUES = 10_000
MOST_COUNT = 2**63 - 1


class _NoHarm(yaml.parser.Parser, yaml.composer.Composer):
    """Refuses what a few lines can make endless: aliases of aliases, and nesting."""

    _depth = 0
    _count = 0  # values so far, as they would be with every alias written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        before = self._count
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            self._count += self._sizes.get(id(node), MOST_VALUES)  # unknown: it is within itself
        else:
            self._count += 1
            self._depth += 1
            self._require_bounded(event)
            node = super().compose_node(parent, index)
            self._depth -= 1
            self._sizes[id(node)] = self._count - before
        self._require_bounded(event)
        return node

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """How many values a node is, by its identity; the document keeps all nodes alive."""
        return {}

    def _require_bounded(self, event: Any) -> None:
        if self._depth > MOST_DEPTH or self._count >= MOST_VALUES:
            problem = "nested too deeply" if self._depth > MOST_DEPTH else "holds too many values"
            raise yaml.composer.ComposerError(problem=problem, problem_mark=event.start_mark)


class _NoRepeats(yaml.constructor.BaseConstructor):
    """Refuses repeated keys, of which PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # not a name, so refused below or as an unknown key
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key '{_short(key.value)}' stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Typed(_NoHarm, _NoRepeats, yaml.SafeLoader):
    pass


class _Texts(_NoHarm, _NoRepeats, yaml.BaseLoader):
    pass


def read_yaml(path: Path, typed: bool = True) -> object:
    """The values of a YAML file; with `typed` false, every value that is no list or mapping is the
    text that stands there (YAML takes 4:00:00 for the number 14400).

    Raises LatentWireError for a file that cannot be read or is not YAML.
    """
    text = read_text(path, MOST_BYTES)
    try:
        return yaml.load(text, Loader=_Typed if typed else _Texts)
    # PyYAML lets values that Python cannot make through: impossible dates, numbers of thousands of
    # digits, tags that do not fit what they stand before.
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError) as error:
        reason = " ".join(str(error).replace('"<unicode string>"', "the file").split())
        raise LatentWireError(f"{path}: not YAML ({reason})") from None


class StrictMapping:
    """Takes the keys of a mapping one by one; what is left at the end is unknown.

    `within` is the key that the mapping stands under, "" for the whole file. Every method raises
    LatentWireError naming the file and the key: one that is missing, a value of another type.
    """

    def __init__(self, values: object, file: Path, within: str) -> None:
        self._file = file
        self._within = within
        if not isinstance(values, dict):
            what = f"'{within}'" if within else "the file"
            raise LatentWireError(
                f"{file}: {what} must hold keys and values, got {kind_of(values)}"
            )
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
            # YAML takes no, 0123 and 2026-01-02 for false, a number and a date.
            other = value is not None and not isinstance(value, str | list | dict)
            raise self.wrong(key, "text", value, ": put it in quotes" if other else "")
        return value

    def truth(self, key: str) -> bool:
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def one_of(self, key: str, allowed: Sequence[str]) -> str:
        value = self.take(key)
        if value not in allowed:
            raise self.wrong(key, f"one of {', '.join(allowed)}", value)
        return str(value)

    def number(self, key: str) -> float:
        value = self.take(key)
        try:
            number = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError:  # a whole number has as many digits as somebody writes
            number = math.inf
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.wrong(key, "a number", value)
        return number

    def count(self, key: str) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_COUNT:
            raise self.wrong(key, "a whole number above 0", value)
        return value

    def items(self, key: str) -> list[Any]:
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise self.wrong(key, "a list with at least one entry", value)
        return value

    def dataset_names(self, key: str) -> tuple[str, ...]:
        values = self.take(key)
        known = task_names()
        if not isinstance(values, list) or not values:
            raise self.wrong(key, "a list of dataset names", values)
        for value in values:
            if value not in known:
                raise LatentWireError(
                    f"{self._file}: key '{self._name(key)}' names an unknown dataset"
                    f" {quoted(value)}; known: {', '.join(known)}"
                )
        if len(set(values)) < len(values):
            raise LatentWireError(f"{self._file}: key '{self._name(key)}' names a dataset twice")
        return tuple(values)

    def finish(self) -> None:
        if self._left:
            unknown = shortened(", ".join(f"'{self._name(key)}'" for key in self._left), 300)
            raise LatentWireError(f"{self._file}: unknown key {unknown}")

    def _name(self, key: object) -> str:
        name = _short(key) if isinstance(key, str) else quoted(key)
        return f"{self._within}.{name}" if self._within else name

    def wrong(self, key: str, expected: str, value: object, to_do: str = "") -> LatentWireError:
        return LatentWireError(
            f"{self._file}: key '{self._name(key)}' must be {expected}, got {kind_of(value)}{to_do}"
        )


def kind_of(value: object) -> str:
    """A value as sentences about it name it: its type and itself."""
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {quoted(value)}"


def _short(key: str) -> str:
    return shortened(printable(key), 60)
