"""What is asked of tables again and again: their rows as dictionaries, and their families."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from latentwire.spec.axes import BUDGETS, CACHES

FAMILY = ["pair", "dataset", "source"]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row as column -> value, as `DataFrame.to_dict("records")` has them: in a fourth of its
    time, where the tables of a study have over a hundred columns and few rows."""
    names = [str(name) for name in frame.columns]
    rows = frame.to_numpy(dtype=object).tolist()
    return [dict(zip(names, map(_own, row), strict=True)) for row in rows]


def _own(value: Any) -> Any:
    """A value as Python's own, None where one of a dtype with a mask is missing."""
    if value is pd.NA:
        return None
    return value.item() if isinstance(value, np.generic) else value


def families(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Each pair, dataset and source of a table with its rows, in the order of the table."""
    for (pair, dataset, source), rows in frame.groupby(FAMILY, sort=False):
        yield str(pair), str(dataset), str(source), rows


def whole_caches(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of caches that are sent whole."""
    return frame[frame["system"].isin(CACHES) & (frame["keep_ratio"] == 1) & ~under_budget(frame)]


def under_budget(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows have packets of at most so many bytes."""
    return frame[list(BUDGETS)].notna().any(axis=1)


def metric_of(rows: pd.DataFrame) -> str:
    """What the scores of one dataset's rows are: "accuracy", or what its task calls them."""
    return str(rows["metric"].iloc[0]) if len(rows) else "accuracy"


def is_resampled(rows: pd.DataFrame) -> bool:
    """Whether the intervals of one dataset's rows are the bootstrap's (see `paired_scores`)."""
    known = rows["score_low"].notna()
    return bool((rows["score_low"] != rows["accuracy_low"])[known].any())


def published_note(source: str) -> str:
    """What stands behind a title where answers are a study's."""
    return ", published answers" if source == "published" else ""
