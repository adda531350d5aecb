"""Fixtures for tests of the suite."""

from pathlib import Path

import pytest
from tests_support import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
