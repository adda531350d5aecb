"""Python and packages against the project's files, in folders that stand in for the checkout."""

import platform
from importlib import metadata
from pathlib import Path

import pytest

from latentwire.checks import packages
from latentwire.checks.packages import check_packages, check_python
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError

HERE = platform.python_version()
TORCH = metadata.version("torch")


def checkout(
    folder: Path, needs: str = ">=3.11", dependencies: tuple[str, ...] = (), lock: str | None = None
) -> Path:
    listed = ", ".join(f'"{line}"' for line in dependencies)
    text = f'[project]\nrequires-python = "{needs}"\ndependencies = [{listed}]\n'
    (folder / "pyproject.toml").write_text(text)
    if lock is not None:
        (folder / "constraints.txt").write_text(lock)
    return folder


def test_this_environment_is_the_one_that_is_locked() -> None:
    assert "packages as in the lock" in check_packages()
    assert HERE in check_python()


def test_an_older_python_than_needed_fails(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=f"Python {HERE}, the project needs >=9.9"):
        check_python(checkout(tmp_path, needs=">=9.9"))


def test_another_python_than_tested_is_doubted(tmp_path: Path) -> None:
    checkout(tmp_path)
    (tmp_path / "conda.yaml").write_text("dependencies:\n  - python=3.2\n")
    with pytest.raises(CheckWarning, match=r"tested is 3\.2"):
        check_python(tmp_path)


def test_a_missing_package_fails(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match="no-such-thing is not installed"):
        check_packages(checkout(tmp_path, dependencies=("no-such-thing>=1",)))


def test_a_version_outside_the_projects_range_fails(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=r"torch .* \(needed: <0\.1\)"):
        check_packages(checkout(tmp_path, dependencies=("torch<0.1",)))


def test_another_version_than_the_locks_is_doubted(tmp_path: Path) -> None:
    with pytest.raises(CheckWarning, match=r"filelock .* \(lock: 0\.0\.1\)"):
        check_packages(checkout(tmp_path, lock="filelock==0.0.1\n"))


def test_a_build_of_the_same_version_is_the_same(tmp_path: Path) -> None:
    public = TORCH.partition("+")[0]
    assert check_packages(checkout(tmp_path, lock=f"# lock\ntorch=={public}\n"))


def test_what_the_lock_names_for_development_need_not_be_there(tmp_path: Path) -> None:
    assert check_packages(checkout(tmp_path, lock="no-such-thing==1.0\n")).startswith("0 packages")


def test_a_long_list_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_version", lambda name: "2")
    lock = "".join(f"p{number}==1\n" for number in range(8))
    with pytest.raises(CheckWarning, match="and 3 more"):
        check_packages(checkout(tmp_path, lock=lock))


def test_without_a_lock_nothing_is_compared(tmp_path: Path) -> None:
    with pytest.raises(CheckWarning, match=r"constraints\.txt is not here"):
        check_packages(checkout(tmp_path))


def test_without_a_checkout_the_installed_package_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["no-such-thing>=1", 'ruff>=99; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    with pytest.raises(LatentWireError, match=r"^no-such-thing is not installed \(needed: >=1\)$"):
        check_packages(tmp_path)
