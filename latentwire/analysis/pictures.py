"""What all pictures share: the style they are drawn in, text in them, and how they are written.

The style is set here alone. Figures are made as objects, never through pyplot: it keeps every
figure in a global list, takes a backend from the environment and asks for a display.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from c2c.errors import printable
from latentwire.analysis.atomic_write import replacing
from latentwire.analysis.safe_names import picture_names
from latentwire.garbage import gc_paused
from latentwire.pairs.demonstration import demonstration_note

DPI = 200
ENDINGS = (".png", ".svg", ".pdf")  # of a picture's files
PALE = 0.4  # opacity of what is not complete
LONGEST_LABEL = 60  # characters
HANDLE_CHARACTERS = 9  # that the sample of a line takes in a legend
Drawing = Callable[[], Figure]  # a picture that is to be drawn
P = ParamSpec("P")
T = TypeVar("T")
# matplotlib's own settings, so that a user's matplotlibrc changes nothing, and one font that it
# brings along: others may be installed here and not there. The salt stands in for random ids.
_STYLE = {
    **{name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")},
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "svg.hashsalt": "latentwire",
    "svg.fonttype": "none",  # text stays text: to be searched, copied and read out
    "pdf.fonttype": 42,  # as TrueType, which publishers ask for
}


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that draws or writes a figure: it does so in the suite's style."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> T:
        with rc_context(_STYLE), gc_paused():
            return draw(*args, **kwargs)

    return in_style


def label(name: object) -> str:
    """A name of others as it stands in a title: one line, no formula, long ones shortened."""
    shown = printable(str(name))
    if len(shown) > LONGEST_LABEL:
        half = LONGEST_LABEL // 2 - 1
        shown = f"{shown[:half]}…{shown[-half:]}"
    return _plain(shown)


def pair_label(name: object) -> str:
    """A pair's name as it stands in a title; of a toy, that it is one."""
    note = demonstration_note(str(name))
    return f"{label(name)} ({note})" if note else label(name)


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose text is fit for a picture. Nothing is shortened: what differs stays apart."""
    texts = [name for name in frame if pd.api.types.is_string_dtype(frame[name])]
    shown = {
        str(name): frame[name].map(lambda text: _plain(printable(text)), na_action="ignore")
        for name in texts
    }
    return frame.assign(**shown)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def legend_columns(names: Sequence[str], most: int, room: int) -> int:
    """Of a legend, which is filled column by column: as many as `room` characters a line hold."""

    def characters(columns: int) -> int:
        rows, longer = divmod(len(names), columns)  # the first columns have a row more
        ends = [column * rows + min(column, longer) for column in range(columns + 1)]
        parts = [names[start:end] for start, end in pairwise(ends)]
        return sum(max(map(len, part)) + HANDLE_CHARACTERS for part in parts)

    fitting = (n for n in range(min(len(names), most), 1, -1) if characters(n) <= room)
    return next(fitting, 1)


def gridded(axes: Axes, label_size: float) -> None:
    """A thin grid, and the size of the numbers along the axes."""
    axes.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)
    axes.tick_params(labelsize=label_size)


def save_figure(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write the figure as `stem`.png, `stem`.svg and `stem`.pdf; paths."""
    paths = files_of(stem, folder)
    save_png(figure, paths[0])
    save_svg(figure, paths[1])
    save_pdf(figure, paths[2])
    return paths


def files_of(stem: str, folder: Path) -> list[Path]:
    """The paths of a picture's files."""
    return [folder / f"{stem}{ending}" for ending in ENDINGS]


def drawings_of(
    draw: Callable[[pd.DataFrame, str, str], Figure], table: pd.DataFrame, stem: str
) -> dict[str, Drawing]:
    """What is to be drawn of each dataset and pair of a table, by `stem` and its name."""
    return {
        f"{stem}{name}": partial(draw, table, dataset, pair)
        for (pair, dataset), name in picture_names(table).items()
    }


def save_each(
    draw: Callable[[pd.DataFrame, str, str], Figure], table: pd.DataFrame, folder: Path, stem: str
) -> list[Path]:
    """`save_figure` of `drawings_of`; paths."""
    paths = []
    for name, drawing in drawings_of(draw, table, stem).items():
        paths += save_figure(drawing(), folder, name)
    return paths


@styled
def save_png(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write the figure as PNG, replacing `path` in one step."""
    _save(figure, path, dpi=dpi, format="png")


@styled
def save_svg(figure: Figure, path: Path) -> None:
    """Write the figure as SVG, replacing `path` in one step; the same figure gives the same bytes.

    Text is text, in the font that pictures are laid out in or, where that is not installed, the
    browser's own.
    """
    # A date would differ in every file.
    _save(figure, path, format="svg", metadata={"Date": None})


@styled
def save_pdf(figure: Figure, path: Path) -> None:
    """Write the figure as PDF with its fonts, replacing `path` in one step; the same figure gives
    the same bytes."""
    _save(figure, path, format="pdf", metadata={"CreationDate": None})


def _save(figure: Figure, path: Path, **options: Any) -> None:
    with replacing(path) as temporary, _without_missing_glyphs():
        _lay_out(figure, options.get("dpi", figure.dpi))
        figure.savefig(temporary, **options)


def _lay_out(figure: Figure, dpi: float) -> None:
    """Once, so in every file alike, and without the drawing that saving would do for it: None is
    no engine, where "none" has each file drawn once for nothing."""
    if (engine := figure.get_layout_engine()) is not None:
        figure.dpi, before = dpi, figure.dpi
        engine.execute(figure)
        figure.dpi = before
        figure.set_layout_engine(None)


@contextmanager
def _without_missing_glyphs() -> Iterator[None]:
    """No warning for each letter that the font lacks: it is drawn as an empty box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
