"""The project's files agree with each other and with the code."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from latentwire.milestones import (
    baselines,
    calibrate,
    demo_pair,
    m0,
    m1,
    m2,
    m3,
    m4,
    main,
    preflight,
    published,
    reproduce,
)
from latentwire.parameters import Parameter

ROOT = Path(__file__).parents[1]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRY_POINTS: dict[str, tuple[Parameter, ...]] = {
    "main": main.PARAMETERS,
    "m0": m0.PARAMETERS,
    "baselines": baselines.PARAMETERS,
    "calibrate": calibrate.PARAMETERS,
    "m1": m1.PARAMETERS,
    "m2": m2.PARAMETERS,
    "m3": m3.PARAMETERS,
    "m4": m4.PARAMETERS,
    "preflight": preflight.PARAMETERS,
    "demo_pair": demo_pair.PARAMETERS,
    "published": published.PARAMETERS,
    "reproduce": reproduce.PARAMETERS,
}

# A package may import those to its right, and c2c; data flows the other way.
LAYERS = (
    "cluster",
    "milestones",
    "checks",
    "tracking",
    "analysis",
    "evaluation",
    "channel",
    "spec",
)
TOLD = (".py", ".yaml", ".html", ".js", ".md")  # files whose words reach a reader
WITHOUT_MLFLOW = ("spec", "channel", "evaluation", "data", "pairs", "demo")


def test_every_entry_point_is_in_the_project_file() -> None:
    assert set(PROJECT["entry_points"]) == set(ENTRY_POINTS)
    scripts = {path.stem for path in (ROOT / "entry_points").glob("[!_]*.py")}
    assert scripts == set(ENTRY_POINTS)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_project_file_repeats_the_parameters(name: str) -> None:
    entry = PROJECT["entry_points"][name]
    listed = {key: str(value["default"]) for key, value in entry["parameters"].items()}
    assert listed == {parameter.name: parameter.default for parameter in ENTRY_POINTS[name]}
    options = [f"--{key.replace('_', '-')} {{{key}}}" for key in listed]
    assert (
        entry["command"].split() == " ".join([f"python entry_points/{name}.py", *options]).split()
    )


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points_are_short(name: str) -> None:
    assert len((ROOT / "entry_points" / f"{name}.py").read_text().splitlines()) < 30


def test_conda_has_the_locks_versions() -> None:
    lock = (ROOT / "constraints.txt").read_text().splitlines()
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    (pins,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    # What stands below the pins is held by the lock as well.
    assert pins.pop(0) == "-c constraints.txt"
    assert set(pins) <= set(lock)
    named = {pin.split("==")[0].lower() for pin in pins}
    text = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'^    "([A-Za-z_-]+)[<>=]', text, re.MULTILINE)
    assert {name.lower() for name in needed} <= named


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_imports_go_one_way() -> None:
    for number, layer in enumerate(LAYERS):
        above = {f"latentwire.{name}" for name in LAYERS[:number]}
        for path in (ROOT / "latentwire" / layer).rglob("*.py"):
            for name in imports(path):
                package = ".".join(name.split(".")[:2])
                # load.py is the one reader of runs: it knows the store and the tags.
                if (path.name, package) != ("load.py", "latentwire.tracking"):
                    assert package not in above, f"{path.name} imports {name}"


def test_the_protocol_stands_alone() -> None:
    for path in (ROOT / "C2C" / "c2c").glob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in ("latentwire", "mlflow"), f"{path.name}: {name}"


@pytest.mark.parametrize("package", WITHOUT_MLFLOW)
def test_what_evaluates_knows_nothing_of_mlflow(package: str) -> None:
    paths = list((ROOT / "latentwire" / package).glob("*.py"))
    assert paths
    for path in paths:
        assert not any(name.split(".")[0] == "mlflow" for name in imports(path)), path


def test_every_entry_point_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in ENTRY_POINTS:
        assert f"| `{name}` |" in readme


def test_no_gain_is_never_called_no_communication() -> None:
    """With the published pair 18 % of the letters change at a gain of about zero: what is not shown
    is a benefit."""
    told = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    told += [path for path in (ROOT / "latentwire").rglob("*") if path.suffix in TOLD]
    for path in told:
        text = " ".join(path.read_text(encoding="utf-8").split())
        for found in re.finditer(r"[^.;|]*\b(nothing|no content)\b[^.;|]* communicated", text):
            assert "not that nothing" in found[0], f"{path}: {found[0]}"
