"""The lock has wheels for every Python that the project claims, and the newest torch fits it.

uv resolves for Pythons that are not installed, from the index's metadata alone: 40 MB, no wheel.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from tests_support import ROOT

pytestmark = [
    pytest.mark.environments,
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed"),
]

CHECKED = ("3.11", "3.12", "3.13", "3.14")
PLATFORM = "x86_64-manylinux_2_28"
LOCK = (ROOT / "constraints.txt").read_text()


def resolve(python: str, lock: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Resolve the project for a Python, from wheels alone, with versions held by `lock`."""
    # A copy without the project's own claim: the packages are asked, not our word.
    project = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(re.sub(r"(?m)^requires-python.*\n", "", project))
    (folder / "lock.txt").write_text(lock)
    return subprocess.run(
        [
            *(
                "uv",
                "pip",
                "compile",
                "pyproject.toml",
                "--extra",
                "dev",
                "--constraint",
                "lock.txt",
            ),
            *("--python-version", python, "--python-platform", PLATFORM, "--only-binary", ":all:"),
            *("--no-header", "--no-annotate", "--quiet"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("python", CHECKED)
def test_the_lock_resolves(python: str, tmp_path: Path) -> None:
    done = resolve(python, LOCK, tmp_path)
    assert done.returncode == 0, done.stderr
    got, lock = pins(done.stdout), pins(LOCK)
    assert got["torch"] == lock["torch"]
    different = {name: v for name, v in got.items() if name in lock and lock[name] != v}
    assert not different
    # What the lock does not hold comes with torch's CUDA build alone.
    free = set(got) - set(lock)
    assert all(re.match(r"nvidia-|cuda-|triton$|setuptools$", name) for name in free), free


@pytest.mark.parametrize("python", CHECKED)
def test_the_newest_torch_resolves(python: str, tmp_path: Path) -> None:
    done = resolve(python, re.sub(r"(?m)^torch==.*\n", "", LOCK), tmp_path)
    assert done.returncode == 0, done.stderr
    newest = pins(done.stdout)["torch"]
    print(f"Python {python}: torch {newest}")
    assert Version(newest) >= Version(pins(LOCK)["torch"])


def test_an_older_python_has_no_wheels(tmp_path: Path) -> None:
    done = resolve("3.10", LOCK, tmp_path)
    assert done.returncode != 0
    assert "no usable wheels" in done.stderr or "Python" in done.stderr


def test_the_project_claims_what_is_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = SpecifierSet(project["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert tuple(minor for minor in minors if f"{minor}.5" in claimed) == CHECKED
