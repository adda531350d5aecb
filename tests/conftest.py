"""Fixtures for every test."""

from pathlib import Path

import pytest
import torch

# The models are so small that sharing one step among threads costs ten times what it saves.
torch.set_num_threads(1)

SHARED_DIR = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference data too large or not ours to commit; tests that need it skip without it."""
    if not SHARED_DIR.is_dir():
        pytest.skip(f"the reference data is not there: {SHARED_DIR}")
    return SHARED_DIR
