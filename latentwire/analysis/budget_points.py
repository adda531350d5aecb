"""What a picture of the budget curve shows: which rows of the table, as points."""

import math
from dataclasses import dataclass

import pandas as pd

from latentwire.analysis.codec_styles import CODEC_STYLES, codec_styles
from latentwire.analysis.frames import metric_of
from latentwire.analysis.order_styles import MOST_ORDERS
from latentwire.analysis.pictures import labelled
from latentwire.analysis.plot_baselines import BaselinePoint, read_baselines
from latentwire.analysis.plot_points import PlotPoint, read_points, read_sweeps
from latentwire.analysis.selection_figure import selected_orders
from latentwire.analysis.study_points import study_points
from latentwire.errors import LatentWireError
from latentwire.spec.axes import AXES, CACHES

MOST_CODECS = 10  # told apart by colour and marker


@dataclass(frozen=True, kw_only=True)
class BudgetPoints:
    """The points of one pair and dataset."""

    rows: pd.DataFrame  # of the table: local ones or, where there is none, the published
    dots: list[PlotPoint]  # the curve's caches
    overlay: list[PlotPoint]  # published ones, laid over a curve of local rows
    baselines: list[BaselinePoint]
    metric: str
    is_published: bool  # the curve itself
    codecs_left_out: int
    orders_left_out: int  # which stand in the picture of selections
    orders_untold: int  # which stand in no picture

    @property
    def gains(self) -> list[PlotPoint]:
        """The curve's points whose pairing gain is known."""
        return [dot for dot in self.dots if not math.isnan(dot.gain.value)]

    @property
    def styles(self) -> dict[str, tuple[str, str]]:
        """Colour and marker of every codec that is drawn."""
        return codec_styles(dot.codec for dot in [*self.dots, *self.overlay])


def read_budget_points(frame: pd.DataFrame, dataset: str, pair: str) -> BudgetPoints:
    """The points of a table of `curve.build_curve`. Raises LatentWireError where it has no C2C
    point of that pair and dataset."""
    frame = labelled(frame[(frame["dataset"] == dataset) & (frame["pair"] == pair)])
    has_local = ((frame["source"] == "local") & frame["system"].isin(CACHES)).any()
    published = frame[frame["source"] == "published"]
    own = frame[frame["source"] == "local"] if has_local else published
    dots = read_points(own)
    if not dots:
        raise LatentWireError(f"There is no point of {pair} on {dataset} to draw.")
    dots, left_out = _of_few_orders(dots)
    untold = [order for order in left_out if order not in selected_orders(own)]
    dots, codecs_left_out = _of_few_codecs(dots)
    overlay = read_points(published) + study_points(own, dots, dataset, pair) if has_local else []
    return BudgetPoints(
        rows=own,
        dots=dots,
        overlay=overlay,
        baselines=read_baselines(own),
        metric=metric_of(own),
        is_published=not has_local,
        codecs_left_out=codecs_left_out,
        orders_left_out=len(left_out) - len(untold),
        orders_untold=len(untold),
    )


def _of_few_codecs(dots: list[PlotPoint]) -> tuple[list[PlotPoint], int]:
    """Dots of codecs that a picture can tell apart, and how many codecs are left out.

    With more than MOST_CODECS, those stay that have several cache lengths or a style of their own;
    the rest, of whole caches only, stand in the picture of codecs against bits.
    """
    codecs = {dot.codec for dot in dots}
    if len(codecs) <= MOST_CODECS:
        return dots, 0
    swept = {codec for codec, _ in read_sweeps(dots)}
    kept = [dot for dot in dots if dot.codec in swept or dot.codec in CODEC_STYLES] or dots
    return kept, len(codecs) - len({dot.codec for dot in kept})


def _of_few_orders(dots: list[PlotPoint]) -> tuple[list[PlotPoint], list[str]]:
    """Dots of orders that lines can tell apart, the first of them, and which are left out."""
    known = {dot.order for dot in dots if dot.order and not dot.whole}
    ordered = sorted(known, key=AXES["order"].sort_key)
    kept, left_out = ordered[:MOST_ORDERS], ordered[MOST_ORDERS:]
    return [d for d in dots if d.whole or d.order in kept], left_out
