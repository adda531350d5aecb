"""The report as one HTML file that asks the network for nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from latentwire.analysis.atomic_write import write_text

REPORT_FILE = "report.html"


def render(content: Mapping[str, Any]) -> str:
    """The page for what `page_data.page_data` gave.

    Answers of models are hostile text. They stand in a block of JSON that no HTML can end, the
    script sets them as text only, and the page's policy runs no other script than its own, known
    by hash, and loads nothing.
    """
    style, script = _part("page.css"), _part("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}';"
        f" script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "script": script, "data": embedded(content)}
    # In one pass: what is put in is never searched again.
    return re.sub(
        r"\{(policy|style|script|data)\}", lambda mark: parts[mark[1]], _part("page.html")
    )


def embedded(content: Mapping[str, Any]) -> str:
    """JSON in ASCII in which no character begins a tag, an entity or a comment."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def write_report(content: Mapping[str, Any], folder: Path) -> Path:
    """Write report.html into a folder, in one step; its path."""
    path = folder / REPORT_FILE
    write_text(path, render(content))
    return path


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
