"""Python and packages: is what the project needs there, and is it what the lock names?"""

import platform
import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError, first_of

ROOT = Path(__file__).parents[2]
MOST_NAMED = 5


def check_python(root: Path = ROOT) -> str:
    """Python's version against pyproject.toml's, and against conda.yaml's, the tested one."""
    found = platform.python_version()
    project = _project(root)
    needed = str(project["requires-python"]) if project else ""
    if needed and found not in SpecifierSet(needed, prereleases=True):
        raise LatentWireError(f"Python {found}, the project needs {needed}")
    conda = root / "conda.yaml"
    tested = (
        re.search(r"- python=([\d.]+)", conda.read_text(encoding="utf-8"))
        if conda.exists()
        else None
    )
    if tested and Version(found).release[:2] != Version(tested[1]).release[:2]:
        raise CheckWarning(f"Python {found}, tested is {tested[1]}")
    return f"Python {found}"


def check_packages(root: Path = ROOT) -> str:
    """Installed versions against what the project needs and against the lock.

    Raises LatentWireError for a package that is missing or outside the range the project needs,
    and CheckWarning for one that is only another than the lock's.
    """
    needed = _needed(root)
    found = {r.name: _version(r.name) for r in needed}
    wrong = [
        f"{r.name} {found[r.name] or 'is not installed'} (needed: {r.specifier or 'any'})"
        for r in needed
        if not _satisfies(found[r.name], r.specifier)
    ]
    if wrong:
        raise LatentWireError(", ".join(wrong))
    lock = root / "constraints.txt"
    if not lock.exists():
        raise CheckWarning("the lock constraints.txt is not here, versions are not compared")
    pins = {
        canonicalize_name(name): Version(version)
        for name, version in re.findall(
            r"^([\w.-]+)==([\w.!+-]+)$", lock.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    installed = {name: version for name in pins if (version := _version(name))}
    other = [
        f"{name} {version} (lock: {pins[name]})"
        for name, version in sorted(installed.items())
        if Version(version).public != pins[name].public
    ]
    if other:
        raise CheckWarning(f"not the lock's versions: {first_of(other, MOST_NAMED)}")
    return f"{len(installed)} packages as in the lock, torch {found.get('torch')}"


def _satisfies(version: str | None, needed: SpecifierSet) -> bool:
    return version is not None and needed.contains(Version(version), prereleases=True)


def _version(name: str) -> str | None:
    try:
        text = metadata.distribution(name).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return None
    # `metadata.version` parses the descriptions too, which are most of these hundreds of files.
    found = re.search(r"^Version: *(\S+)", text, re.MULTILINE)
    return found[1] if found else metadata.version(name)


def _project(root: Path) -> dict[str, object] | None:
    """The [project] table; None where the package is installed without its checkout."""
    file = root / "pyproject.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.exists() else None


def _needed(root: Path) -> list[Requirement]:
    """What the project needs to run; its tools for development are left out."""
    project = _project(root)
    if project:
        lines = project["dependencies"]
    else:
        try:
            lines = metadata.requires("latentwire") or []
        except metadata.PackageNotFoundError:
            lines = []
    assert isinstance(lines, list)
    try:
        found = [Requirement(line) for line in lines]
    except InvalidRequirement as error:
        raise LatentWireError(f"pyproject.toml names a package that cannot be: {error}") from None
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
