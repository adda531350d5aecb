"""Fixtures for every test."""

from pathlib import Path

import pytest

SHARED_DIR = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference data too large or not ours to commit; tests that need it skip without it."""
    if not SHARED_DIR.is_dir():
        pytest.skip(f"the reference data is not there: {SHARED_DIR}")
    return SHARED_DIR
