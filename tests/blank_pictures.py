"""Pictures that no test looks at, written blank: to draw them is most of what a small study costs.

What is drawn, its data and its files' names stay as they are; what a picture looks like is for
tests/latentwire/analysis, and for the tests whose processes have DRAWN in their environment.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the launcher sets more up before its imports
    from matplotlib.figure import Figure

_SHORTEST = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<svg/>\n", "pdf": b"%PDF-1.4\n%%EOF\n"}
DRAWN = "TESTS_WITH_DRAWN_PICTURES"  # in the environment of an entry point


def write_blank(figure: "Figure", path: Path, *, format: str, **options: Any) -> None:
    """What stands for `Figure.savefig`: the shortest file that one could take for a picture."""
    path.write_bytes(_SHORTEST[format])


def lay_out_nothing(*_: object) -> None:
    """What stands for laying a figure out, which takes longer than to draw it."""


def stand_ins() -> list[tuple[type, str, Callable[..., None]]]:
    """What is replaced so that pictures are blank: of which class, its name, and by what."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return [
        (Figure, "savefig", write_blank),
        (Figure, "draw_without_rendering", lay_out_nothing),
        (ConstrainedLayoutEngine, "execute", lay_out_nothing),
    ]
