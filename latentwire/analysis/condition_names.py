"""What conditions are called, in a few words, wherever people read of them."""

from collections.abc import Mapping
from typing import Any

ALONE = ("receiver", "sharer", "calibrated")  # systems that send nothing


def row_name(row: Mapping[Any, Any]) -> str:
    """A row that is no cache, in words."""
    system = str(row["system"])
    if system == "text":
        packed = ", zstd" if row["codec"] == "utf8+zstd" else ""
        return f"text {row['message_tokens']} tokens{packed}"
    if system == "calibrated":
        return "receiver calibrated"
    return f"{system} alone" if system in ALONE else system


def condition_name(row: Mapping[Any, Any]) -> str:
    """Any row in a few words: receiver alone, int8, int8 0.5 back."""
    if row["system"] != "c2c":
        return row_name(row)
    if row["keep_ratio"] == 1:
        return str(row["codec"])
    return f"{row['codec']} {row['keep_ratio']:g} {row['order']}"
