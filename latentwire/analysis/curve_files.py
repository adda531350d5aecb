"""Every picture and table that the budget curve's CSV alone gives."""

from collections.abc import Iterator, Mapping
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
from latentwire.analysis.pictures import Drawing, files_of, save_figure, save_png
from latentwire.analysis.rate_distortion_figure import draw_rate_accuracy
from latentwire.analysis.safe_names import picture_names
from latentwire.analysis.selection_figure import draw_selections, has_selections
from latentwire.errors import LatentWireError
from latentwire.spec.axes import CACHES

CSV_FILE = "budget_curve.csv"
LATEX_FILE = "budget_curve.tex"
PAGE_DPI = 100  # a run's page shows pictures as wide as they are
BUDGET_CURVE, SELECTIONS = "budget_curve_", "selections_"  # how names of pictures begin


def drawings(frame: pd.DataFrame, width: Width = Width.PAGE) -> dict[str, Drawing]:
    """What is to be drawn for each pair and dataset, by file name without its ending: the budget
    curve; with several codecs, accuracy against bits a number; with several cache lengths, the heat
    map; with several ways to choose tokens, these.

    Raises LatentWireError where there is no C2C point to draw.
    """
    found: dict[str, Drawing] = {stem: partial(draw, width=width) for stem, draw in _figures(frame)}
    if not found:
        raise LatentWireError("the table has no C2C point to draw: run m0, m2 or m3 first")
    return found


def write_figures(frame: pd.DataFrame, folder: Path, asked: Mapping[str, Drawing]) -> list[Path]:
    """Write the table in LaTeX, and its `drawings` as PNG, SVG and PDF; paths.

    The same frame and width give the same bytes, whether it was just computed or read from its CSV.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_pictures(asked, folder)
    return [
        write_latex(frame, folder),
        *(path for stem in asked for path in files_of(stem, folder)),
    ]


def write_latex(frame: pd.DataFrame, folder: Path) -> Path:
    """Write the table in LaTeX; its path."""
    path = folder / LATEX_FILE
    write_text(path, latex_table(frame))
    return path


def write_pictures(asked: Mapping[str, Drawing], folder: Path, pages: Path | None = None) -> None:
    """Write drawings as PNG, SVG and PDF; into the folder `pages`, if any, those that a run's page
    shows too, which are drawn once."""
    for stem, draw in asked.items():
        figure = draw()
        save_figure(figure, folder, stem)
        if pages is not None and is_on_page(stem):
            save_png(figure, pages / f"{stem}.png", PAGE_DPI)


def is_on_page(stem: str) -> bool:
    """Whether a run's page shows the drawing of this name."""
    return stem.startswith((BUDGET_CURVE, SELECTIONS))


def write_budget_curves(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the budget curve of each dataset that has a C2C point in the frame, and of several ways
    to choose tokens these, as PNG of a page's width; paths."""
    paths = []
    for stem, draw in _figures(frame):
        if is_on_page(stem):
            paths.append(folder / f"{stem}.png")
            save_png(draw(), paths[-1], PAGE_DPI)
    return paths


def figures_from_csv(path: Path, folder: Path, width: Width = Width.PAGE) -> list[Path]:
    """`write_figures` from a file that m4 wrote; nothing else is read."""
    frame = read_csv(path)
    return write_figures(frame, folder, drawings(frame, width))


def _figures(frame: pd.DataFrame) -> Iterator[tuple[str, "partial[Figure]"]]:
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
