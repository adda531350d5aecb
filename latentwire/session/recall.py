"""What was found of a pair's files before, kept in `~/.cache/latentwire` or `LATENTWIRE_CACHE`.

To look at models and tokenizers takes seconds, most of them to import transformers. What is found
follows from the content of files, from the packages and from our code. All that is in the key: what
was found of the same is not looked for again. What failed or warned is never kept.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import c2c
import latentwire
from latentwire.analysis.atomic_write import replacing
from latentwire.pairs.locate import LocatedPair

_PACKAGES = ("torch", "transformers", "tokenizers", "jinja2", "safetensors", "huggingface_hub")
_FOLDER = "~/.cache/latentwire"
_READ_WHOLE_BYTES = 2**25  # larger files hold weights; of these, size and time are known


def recalled(key: tuple[object, ...], find: Callable[[], Any], keep: bool = True) -> Any:
    """What `find` gives (ready for JSON), or gave for an equal key; kept unless `keep` is false."""
    digest = hashlib.sha256(repr((_version(), key)).encode()).hexdigest()
    path = Path(os.environ.get("LATENTWIRE_CACHE") or _FOLDER, f"{digest}.json")
    with suppress(RuntimeError):  # no home: then it is a folder called ~
        path = path.expanduser()
    try:
        return json.loads(path.read_bytes())["found"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of no use
        found = find()
    if keep:
        with suppress(OSError), replacing(path) as temporary:
            temporary.write_text(json.dumps({"found": found}))
    return found


def contents(located: LocatedPair) -> tuple[object, ...]:
    """What tells a pair's files from all others: places, names and contents."""
    folders = (located.receiver, located.sharer, located.fuser)
    return tuple((str(folder), _content(folder)) for folder in folders if folder is not None)


def _content(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        known: object = status.st_size, status.st_mtime_ns
        if status.st_size <= _READ_WHOLE_BYTES:
            with suppress(OSError):  # for whoever needs the file to say
                known = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(repr((str(path.relative_to(folder)), known)).encode())
    return total.hexdigest()


@cache
def _version() -> str:
    """Of the code that finds: ours by content, since checkouts are edited, others' by number."""
    total = hashlib.sha256(repr([metadata.version(name) for name in _PACKAGES]).encode())
    for package in (c2c, latentwire):
        for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            total.update(path.read_bytes())
    return total.hexdigest()
