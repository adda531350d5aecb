"""Which files of an output folder are of now, and which an earlier start has left there.

Files are written over, never deleted: what an earlier start wrote and this one does not, such as
the picture of a pair that has a longer name by now, stays. A manifest beside the files says what
belongs to the newest table, and a sentence names the rest.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c2c.errors import printable
from latentwire.analysis.atomic_write import replacing, write_text
from latentwire.analysis.pictures import ENDINGS
from latentwire.errors import first_of

MANIFEST = "latentwire_files.json"
log = logging.getLogger("latentwire")

NAMED = 8  # files that the sentence lists
# How pictures begin that versions without a manifest wrote.
_PICTURES = ("budget_curve_", "codec_rate_", "bits_length_", "links_")
_ABOUT = (
    "written: what the newest start of each writer wrote, with its sha256;"
    " earlier: what one before it wrote, which does not belong to the newest table"
)


def copy_out(folder: Path, writer: str, paths: Sequence[Path]) -> None:
    """Write files to an output folder too, each in one step; a warning names what is left there
    from an earlier start. `writer` as of `record_written`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with replacing(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)
    if left := record_written(folder, writer, paths):
        log.warning(left)


def record_written(folder: Path, writer: str, written: Sequence[Path]) -> str | None:
    """Say in the folder's manifest what was written there just now; a sentence that names what is
    left from earlier, None where nothing is. Only what the same `writer` wrote before can be left
    over from it."""
    path = folder / MANIFEST
    writers = _read(path)
    if writers is None:
        return (
            f"{path} is no manifest of LatentWire and is left alone: what an earlier start has left"
            " beside it is not known"
        )
    now = {file.name: _hash(file) for file in written}
    before = writers.get(writer, {})
    known = before.get("earlier", {}) | before.get("written", {}) if writers else _guessed(folder)
    earlier = {
        name: digest
        for name, digest in known.items()
        if name not in now and (folder / name).is_file() and _hash(folder / name) == digest
    }
    writers[writer] = {"written": now, "earlier": earlier}
    content = {"about": _ABOUT, "writers": writers}
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
    return _sentence(folder, sorted(earlier)) if earlier else None


def _read(path: Path) -> dict[str, Any] | None:
    """The writers of a manifest; empty where there is none, None where it is not one of ours."""
    if not path.exists():
        return {}
    try:
        writers = json.loads(path.read_text(encoding="utf-8"))["writers"]
        entries = [named[kind] for named in writers.values() for kind in ("written", "earlier")]
        if all(isinstance(digest, str) for entry in entries for digest in entry.values()):
            return dict(writers)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _guessed(folder: Path) -> dict[str, str]:
    """Pictures of ours by their names, in a folder that no manifest describes."""
    return {
        path.name: _hash(path)
        for path in folder.iterdir()
        if path.name.startswith(_PICTURES) and path.suffix in ENDINGS and path.is_file()
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sentence(folder: Path, names: Sequence[str]) -> str:
    listed = first_of(list(map(printable, names)), NAMED)
    return (
        f"{folder} still holds files of an earlier start, which do not belong to the new table:"
        f" {listed}; delete them, or give another folder ({MANIFEST} says which are new)"
    )
