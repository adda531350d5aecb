"""Every picture and table that the budget curve's CSV alone gives."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from latentwire.analysis.atomic_write import write_text
from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.curve import read_csv
from latentwire.analysis.frames import whole_caches
from latentwire.analysis.heat_map import draw_heat_map, has_grid
from latentwire.analysis.latex import latex_table
from latentwire.analysis.picture_width import Width
from latentwire.analysis.pictures import save_figure, save_png
from latentwire.analysis.rate_distortion_figure import draw_rate_accuracy
from latentwire.analysis.safe_names import picture_names
from latentwire.analysis.selection_figure import draw_selections, has_selections
from latentwire.errors import LatentWireError
from latentwire.spec.axes import CACHES

CSV_FILE = "budget_curve.csv"
LATEX_FILE = "budget_curve.tex"
PAGE_DPI = 100  # a run's page shows pictures as wide as they are
BUDGET_CURVE, SELECTIONS = "budget_curve_", "selections_"  # how names of pictures begin


def drawn(frame: pd.DataFrame, width: Width = Width.PAGE) -> dict[str, Figure]:
    """For each pair and dataset, by file name without its ending: the budget curve; with several
    codecs, accuracy against bits a number; with several cache lengths, the heat map; with several
    ways to choose tokens, these.

    Raises LatentWireError where there is no C2C point to draw.
    """
    figures = {stem: draw(width=width) for stem, draw in _figures(frame)}
    if not figures:
        raise LatentWireError("the table has no C2C point to draw: run m0, m2 or m3 first")
    return figures


def write_figures(frame: pd.DataFrame, folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write the table in LaTeX, and what is `drawn` of it as PNG, SVG and PDF; paths.

    The same frame and width give the same bytes, whether it was just computed or read from its CSV.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / LATEX_FILE]
    write_text(paths[0], latex_table(frame))
    for stem, figure in figures.items():
        paths += save_figure(figure, folder, stem)
    return paths


def write_budget_curves(
    frame: pd.DataFrame, folder: Path, figures: Mapping[str, Figure] | None = None
) -> list[Path]:
    """Write the budget curve of each dataset that has a C2C point in the frame, and of several ways
    to choose tokens these, as PNG of a page's width; paths. What is in `figures`, as they were
    `drawn` of the same frame, is not drawn again."""
    paths = []
    for stem, draw in _figures(frame):
        if stem.startswith((BUDGET_CURVE, SELECTIONS)):
            paths.append(folder / f"{stem}.png")
            save_png((figures or {}).get(stem) or draw(), paths[-1], PAGE_DPI)
    return paths


def figures_from_csv(path: Path, folder: Path, width: Width = Width.PAGE) -> list[Path]:
    """`write_figures` from a file that m4 wrote; nothing else is read."""
    frame = read_csv(path)
    return write_figures(frame, folder, drawn(frame, width))


def _figures(frame: pd.DataFrame) -> Iterator[tuple[str, Callable[..., Figure]]]:
    """File name without its ending, and what draws the figure."""
    for (pair, dataset), end in picture_names(frame).items():
        rows = frame[(frame["pair"] == pair) & (frame["dataset"] == dataset)]
        sent = rows[rows["system"].isin(CACHES) & (rows["wire_bytes_mean"] > 0)]
        if sent.empty:
            continue
        yield f"{BUDGET_CURVE}{end}", partial(draw_budget_curve, frame, dataset, pair)
        local = rows[rows["source"] == "local"]
        if whole_caches(local)["bits_per_element"].notna().sum() > 1:
            yield f"codec_rate_{end}", partial(draw_rate_accuracy, local, dataset, pair)
        # As in the curve: what was computed here, or the published answers where nothing was.
        own = local if (sent["source"] == "local").any() else rows[rows["source"] == "published"]
        if has_selections(own):
            yield f"{SELECTIONS}{end}", partial(draw_selections, own, dataset, pair)
        if has_grid(own):
            yield f"bits_length_{end}", partial(draw_heat_map, own, dataset, pair)
