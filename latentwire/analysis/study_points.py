"""What the published study scored where something like it was measured here: hollow markers.

Its M6, M8 and M9 are conditions of ours and stand at the bytes that these take here. Its M10 gave
budgets, and stands at the bytes that they allow of the cache that is sent here.
"""

import math
from collections.abc import Sequence

import pandas as pd

from latentwire.analysis.plot_points import Band, PlotPoint
from latentwire.analysis.reproduction.published_accuracies import (
    bundled_study,
    point,
)
from latentwire.analysis.reproduction.published_budgets import study_generosity, study_table

BUDGETED = "int8"  # the codec of its budgets: rd_greedy took int8 before all else
_NONE = Band(math.nan, math.nan, math.nan)


def note() -> str:
    """Says where the budgets stand."""
    return (
        f"Published budgets ({BUDGETED}) stand at the bytes that they allow,"
        f" {study_generosity():g} times what they are called"
    )


def study_points(
    rows: pd.DataFrame, dots: Sequence[PlotPoint], dataset: str, pair: str
) -> list[PlotPoint]:
    """The study's points beside the `dots` of one curve's rows, if it had this pair."""
    study = bundled_study()
    if study.pair != pair:
        return []
    published = {each.point: each.accuracy for each in (*study.protected, *study.selected)}
    found = []
    for dot in dots:
        name = point(dataset, dot.codec, dot.keep_ratio, dot.order or "front")
        if name in published and not dot.budget:
            found.append(_point(dot.wire_bytes, published[name], dot.codec, dot.order))
    whole = _whole_bytes(rows)
    table = study_table()
    for _, row in table[table["dataset"] == dataset].iterrows():
        if not math.isnan(whole):
            allowed = whole * float(row["share_of_16_bits"])
            found.append(_point(allowed, float(row["accuracy"]), BUDGETED, None, row["label"]))
    return found


def _whole_bytes(rows: pd.DataFrame) -> float:
    """Mean bytes of whole caches in 16 bits, of which budgets are shares; NaN without such."""
    shares = rows[rows["budget_ratio"].notna()]
    told = (shares["wire_bytes_mean"] + shares["unused_bytes_mean"]) / shares["budget_ratio"]
    return float(told.astype("float64").median())


def _point(
    wire_bytes: float, accuracy: float, codec: str, order: str | None, budget: str = ""
) -> PlotPoint:
    return PlotPoint(
        wire_bytes=wire_bytes,
        score=Band(100 * accuracy, math.nan, math.nan),
        gain=_NONE,
        complete=True,
        gain_complete=True,
        codec=codec,
        keep_ratio=1.0,
        order=order,
        deranged=math.nan,
        x=wire_bytes,
        budget=budget,
    )
