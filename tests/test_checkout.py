"""What `make setup` installs is found from every folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="make setup made another one")
def test_python_finds_the_packages_from_the_folder_above_the_checkout(tmp_path: Path) -> None:
    """There, the checkout's own folder is called like the package, and has no code."""
    (tmp_path / "latentwire").symlink_to(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", "import c2c, latentwire; print(c2c.__file__, latentwire.run)"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "" and done.stdout.startswith(f"{ROOT / 'C2C' / 'c2c'}/__init__.py <fun")
