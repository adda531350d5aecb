"""A user's settings of matplotlib neither fail nor change a picture."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib import rc_context

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.curve_files import drawings, write_figures

Make = Callable[..., ConditionResult]
THEIRS = {
    "text.usetex": True,
    "svg.fonttype": "none",
    "font.family": ["serif"],
    "lines.linewidth": 3,
    "savefig.bbox": "tight",
    "axes.facecolor": "black",
    "text.parse_math": False,
    "axes.formatter.use_locale": True,
}


def test_settings_of_the_user_change_no_byte(condition: Make, tmp_path: Path) -> None:
    frame = build_curve([condition("AABC"), condition("ABBC", keep_ratio=0.5, wire_bytes=500)])
    own = write_figures(frame, tmp_path / "own", drawings(frame))
    with rc_context(THEIRS):
        theirs = write_figures(frame, tmp_path / "theirs", drawings(frame))
    assert len(own) == 7
    for one, other in zip(own, theirs, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize(
    "settings",
    [
        {"MPLBACKEND": "module://nowhere.backend_inline"},
        {"MPLBACKEND": "nosuch", "MATPLOTLIBRC": "{folder}"},
        {"MATPLOTLIBRC": "{folder}"},
        {"MPLCONFIGDIR": "/dev/null/there"},
    ],
)
def test_settings_that_matplotlib_refuses_are_passed_over(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 3\n", encoding="utf-16")
    done = subprocess.run(
        [sys.executable, "-c", "import latentwire.analysis, matplotlib.figure; print('drawn')"],
        env=os.environ | {name: text.format(folder=tmp_path) for name, text in settings.items()},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (0, "drawn\n"), done.stderr
