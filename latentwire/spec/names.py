"""What conditions are called, in a few words, wherever people read of them."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from latentwire.spec.axes import (
    AXES,
    BUDGETS,
    CACHES,
    LM,
    SYSTEMS,
    TEXT,
    WHOLE,
    applying,
    is_missing,
)

_LONG_SCHEDULE = 30  # characters of a schedule's name that a line has room for


def short_codec(name: str) -> str:
    """A codec's name; of a schedule with many parts its base, their number and a hash, so that no
    other's is the same."""
    if len(name) <= _LONG_SCHEDULE or "/" not in name:
        return name
    base, *parts = name.split("/")
    return f"{base}/… {len(parts)} parts {hashlib.sha256(name.encode()).hexdigest()[:6]}"


def short_name(name: str) -> str:
    """A condition's name, or several, with each codec as `short_codec` writes it."""
    return " ".join(map(short_codec, name.split(" ")))


def label(row: Mapping[Any, Any], left_out: Iterable[str] = ()) -> str:
    """The words of all axes but those left out: c2c int8 0.5 back matched."""
    names = [name for name in applying(row["system"]) if name not in left_out]
    words = [AXES[name].label(row) for name in names if not is_missing(row.get(name))]
    return " ".join(filter(None, words))


def budget_label(row: Mapping[Any, Any]) -> str:
    """The words of a row's budget in bytes; "" without one."""
    return " ".join(AXES[name].label(row) for name in BUDGETS if not is_missing(row.get(name)))


def row_name(row: Mapping[Any, Any]) -> str:
    """A row that is no cache, in words."""
    system = SYSTEMS[row["system"]]
    if system.sends != TEXT:
        return system.label
    packed = {"utf8+zstd": ", zstd", LM: ", LM-coded"}.get(row["codec"], "")
    budget = f" {said}" if (said := budget_label(row)) else ""
    return f"{system.label} {row['message_tokens']} tokens{packed}{budget}"


def condition_name(row: Mapping[Any, Any]) -> str:
    """Any row in a few words: receiver alone, int8, int8 0.5 back."""
    if row["system"] not in CACHES:
        return row_name(row)
    return label(row, ("system", "control", "donor")).removesuffix(f" {WHOLE}")
