"""Reading JSON that others have written."""

import json
import re
from typing import Any

from latentwire.errors import quoted

_LONE_HALF = re.compile("[\ud800-\udfff]")


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError, with a reason in words, for what is not JSON and for what could not be kept
    as it stands: a key that stands twice in an object (Python would take the last), NaN and
    numbers too large for a float, half of a character (`\\ud800`), nesting without end.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\u" in text.lower() and _holds_half(value):
        raise ValueError("a text holds half of a character (\\ud800 to \\udfff)")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(twice)} stands twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{quoted(text)} is too large for a number")
    return value


def _holds_half(value: object) -> bool:
    """Whether a text within the value is one that UTF-8 cannot write."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str) and _LONE_HALF.search(one):
            return True
    return False
