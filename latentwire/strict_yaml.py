"""Reading the YAML files that users write: every key is known, every value of its type."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from latentwire.data.registry import dataset_names
from latentwire.errors import LatentWireError


class _NoRepeats(yaml.constructor.BaseConstructor):
    """Refuses repeated keys, of which PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # not a name, so refused below or as an unknown key
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key '{key.value}' stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Typed(_NoRepeats, yaml.SafeLoader):
    pass


class _Texts(_NoRepeats, yaml.BaseLoader):
    pass


def read_yaml(path: Path, typed: bool = True) -> object:
    """The values of a YAML file; with `typed` false, every value that is no list or mapping is the
    text that stands there (YAML takes 4:00:00 for the number 14400).

    Raises LatentWireError for a file that cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Typed if typed else _Texts)
    except OSError as error:
        raise LatentWireError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise LatentWireError(f"{path}: not UTF-8") from None
    # PyYAML lets impossible dates through as plain ValueErrors; deep nesting overflows the stack.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LatentWireError(f"{path}: not YAML ({' '.join(str(error).split())})") from None


class Keys:
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
            raise self.wrong(key, "text", value)
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
        finite = isinstance(value, int | float) and math.isfinite(value)
        if isinstance(value, bool) or not finite:
            raise self.wrong(key, "a number", value)
        return float(value)

    def count(self, key: str) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, "a whole number above 0", value)
        return value

    def items(self, key: str) -> list[Any]:
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise self.wrong(key, "a list with at least one entry", value)
        return value

    def dataset_names(self, key: str) -> tuple[str, ...]:
        values = self.take(key)
        known = dataset_names()
        if not isinstance(values, list) or not values:
            raise self.wrong(key, "a list of dataset names", values)
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

    def wrong(self, key: str, expected: str, value: object) -> LatentWireError:
        return LatentWireError(
            f"{self._file}: key '{self._name(key)}' must be {expected}, got {kind_of(value)}"
        )


def kind_of(value: object) -> str:
    """A value as sentences about it name it: its type and itself."""
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"
