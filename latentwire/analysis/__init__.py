"""Tables, statistics and pictures of what was measured."""

import os
import sys
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path


def _import_matplotlib() -> None:
    """Import matplotlib whatever the user's settings of it are worth.

    It reads them while it is imported, and ends in an error where MPLBACKEND names a backend that
    is not installed (a notebook's is often not) or a matplotlibrc cannot be read. Then its own
    settings are read in place of the user's; pictures are drawn with those in any case (see
    `pictures.styled`).
    """
    try:
        import matplotlib
    except (ValueError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half of it was imported
        found = find_spec("matplotlib")
        assert found and found.origin
        backend = os.environ.pop("MPLBACKEND", None)
        try:
            # A matplotlibrc in the current folder goes before all others: here, its own.
            with chdir(Path(found.origin).parent / "mpl-data"):
                import matplotlib  # noqa: F401
        finally:
            if backend is not None:
                os.environ["MPLBACKEND"] = backend


_import_matplotlib()
