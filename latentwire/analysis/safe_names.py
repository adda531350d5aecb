"""Names of others as parts of file names and metric names: safe, short, and never two the same."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

import pandas as pd

MOST_BYTES = 100  # of a name; file systems take 255, and something stands before and behind it
_DIGITS = 8  # of the hash

Key = tuple[str, ...]


def file_names(keys: Iterable[Key]) -> dict[Key, str]:
    """How pictures of datasets (and pairs) are called: the parts joined by "_".

    What a file name cannot hold everywhere becomes "_", so that it stays in its folder. A name that
    had to be changed, and one that another differs from in upper and lower case alone or not at
    all, ends in a hash of what it stands for. To be used behind a word: alone, it could be a name
    that some system reserves.
    """
    return _distinct(keys, "_", lambda part: re.sub(r"[^\w.+-]", "_", part), mark_changed=True)


def picture_names(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(pair, dataset) of a table -> `file_names` of the dataset, and of the pair where there are
    several."""
    places = list(frame[["pair", "dataset"]].drop_duplicates().itertuples(index=False, name=None))
    several = frame["pair"].nunique() > 1
    keys = [(dataset, pair) if several else (dataset,) for pair, dataset in places]
    names = file_names(keys)
    return {place: names[key] for place, key in zip(places, keys, strict=True)}


def metric_names(keys: Iterable[Key]) -> dict[Key, str]:
    """How the metrics of datasets (and pairs) begin: the parts joined by "/", without what MLflow
    refuses; where two would be the same, with a hash of what they stand for."""
    return _distinct(keys, "/", metric_name, mark_changed=False)


def metric_name(text: str) -> str:
    """Text without what MLflow refuses in the name of a metric."""
    return re.sub(r"[^\w.\- ]", "_", text, flags=re.ASCII)


def _distinct(
    keys: Iterable[Key], separator: str, clean: Callable[[str], str], *, mark_changed: bool
) -> dict[Key, str]:
    known = dict.fromkeys(keys)
    plain = {key: separator.join(map(clean, key)) for key in known}
    same = Counter(map(_folded, plain.values()))
    names = {}
    for key, name in plain.items():
        changed = mark_changed and name != separator.join(key)
        if changed or same[_folded(name)] > 1 or len(name.encode()) > MOST_BYTES:
            short = name.encode()[: MOST_BYTES - _DIGITS - 1].decode(errors="ignore")
            digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
            name = f"{short}-{digest[:_DIGITS]}"
        names[key] = name
    return names


def _folded(name: str) -> str:
    """Alike for names that some file system takes for one."""
    return unicodedata.normalize("NFKC", name).casefold()
