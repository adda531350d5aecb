"""The question sets by name. A new one is its own file and one line here."""

from collections.abc import Callable
from pathlib import Path

from latentwire.data import arc_c, demo_facts, demo_graded, openbookqa
from latentwire.data.dataset import Dataset
from latentwire.errors import LatentWireError

_Load = Callable[[Path | None, bool], Dataset]
_LOADERS: dict[str, tuple[_Load, _Load]] = {  # test split, and questions to calibrate on
    "openbookqa": (openbookqa.load, openbookqa.load_training),
    "arc_c": (arc_c.load, arc_c.load_training),
    "demo_facts": (demo_facts.load, demo_facts.load_training),
    "demo_graded": (demo_graded.load, demo_graded.load_training),
}
_PUBLISHED = {"openbookqa": openbookqa.EXPECTED, "arc_c": arc_c.EXPECTED}


def dataset_names() -> tuple[str, ...]:
    """Every name that `load_dataset` knows."""
    return tuple(_LOADERS)


def load_dataset(name: str, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Read a question set: its test split, scored examples in order.

    `data_dir` is a folder of JSON lines in the hub's schema, laid out as the hub names its parts
    (`openbookqa/test.jsonl`, `ai2_arc/ARC-Challenge/test.jsonl`). Without one, published sets come
    from the Hugging Face hub or its cache. Published sets are checked against their row counts and
    a content hash either way. With `download` false the hub is not asked, only its cache.

    Raises `LatentWireError` for an unknown name, and for a set that cannot be had, is malformed or
    is not the published one; as `NotHere` for one that is only not in the cache.
    """
    return _named(name)[0](data_dir, download)


def load_training(name: str, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Questions of a set that are never scored, from its training split (the bundled sets have a
    development split instead); otherwise as `load_dataset`."""
    return _named(name)[1](data_dir, download)


def published_examples(name: str) -> int | None:
    """How many scored examples a published set has; None for a bundled one, always here."""
    expected = _PUBLISHED.get(name)
    return expected.scored if expected else None


def pinned_hash(name: str) -> str | None:
    """The content hash that a published set is checked against whenever it is read; None for a
    set that is not pinned, or unknown."""
    expected = _PUBLISHED.get(name)
    return expected.hash if expected else None


def _named(name: str) -> tuple[_Load, _Load]:
    if name not in _LOADERS:
        raise LatentWireError(f"unknown dataset {name!r}; known: {', '.join(_LOADERS)}")
    return _LOADERS[name]
