"""A table's rows as dictionaries."""

import math

import numpy as np
import pandas as pd

from latentwire.analysis.frames import records


def made() -> pd.DataFrame:
    """A column of every kind that tables have, values of many kinds in one, and missing ones."""
    return pd.DataFrame(
        {
            "number": [0.5, math.nan, -math.inf],
            "whole": [1, 2, 3],
            "truth": [True, False, True],
            "text": ["a", None, "é"],
            "mixed": pd.Series([np.int64(3), np.float64(2.5), "x"], dtype=object),
            "nothing": pd.Series([None, np.bool_(True), math.nan], dtype=object),
            "masked": pd.array([1, None, 3], dtype="Int64"),
            "kind": pd.Categorical(["u", "v", "u"]),
            "when": pd.to_datetime(["2026-01-02"] * 3),
            7: [1.0, 2.0, 3.0],
        }
    )


def test_rows_are_those_of_pandas() -> None:
    for frame in (made(), made().iloc[1:2], made().iloc[:0]):
        expected = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
        found = records(frame)
        assert repr(found) == repr(expected)  # which tells NaN from None, and numpy's numbers
        assert [[type(v) for v in row.values()] for row in found] == [
            [type(v) for v in row.values()] for row in expected
        ]
