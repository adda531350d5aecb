"""Test files in the form in which pytest runs them, made once for all workers.

pytest writes each assertion anew, so that it can say what was wrong, and keeps the result beside
the file. In a fresh checkout several workers would make all of it at the same time, each for
itself: 7 seconds of a core for each. Their parent has nothing else to do while the launcher
imports.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest


def test_files(paths: Iterable[Path]) -> list[Path]:
    """Those that are among the paths, or below them."""
    return [
        file
        for path in paths
        for file in (path.rglob("test_*.py") if path.is_dir() else [path])
        if file.suffix == ".py"
    ]


def keep_rewritten(files: Iterable[Path], config: pytest.Config) -> None:
    """Write what pytest would make of the files, where that is not there already. By pytest's own
    functions, which it may change: then its workers do it, as anywhere else."""
    try:
        _keep(files, config)
    except (ImportError, AttributeError, TypeError):
        return


def _keep(files: Iterable[Path], config: pytest.Config) -> None:
    from _pytest.assertion import assertstate_key, rewrite

    state = config.stash.get(assertstate_key, None)
    if state is None or sys.dont_write_bytecode:
        return
    for file in files:
        folder = rewrite.get_cache_dir(file)
        kept = folder / (file.name.removesuffix(".py") + rewrite.PYC_TAIL)
        if rewrite.try_makedirs(folder) and rewrite._read_pyc(file, kept, state.trace) is None:
            source, code = rewrite._rewrite_test(file, config)
            rewrite._write_pyc(state, code, source, kept)
