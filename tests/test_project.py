"""The project's files agree with each other and with the code."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from latentwire.errors import LatentWireError
from latentwire.listing import KINDS
from latentwire.milestones.project_file import PATH, project_file
from latentwire.milestones.registry import FOLDER, load_milestone, questions
from latentwire.run_entry_point import chosen
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.registry import TASKS

ROOT = Path(__file__).parents[1]

# A package may import those to its right, and c2c; data flows the other way.
LAYERS = (
    "cluster",
    "milestones",
    "session",
    "checks",
    "tracking",
    "analysis",
    "training",
    "evaluation",
    "tasks",
    "channel",
    "interfaces",
    "pairs",
    "spec",
    "controls",
)
TOLD = (".py", ".yaml", ".html", ".js", ".md")  # files whose words reach a reader
WITHOUT_MLFLOW = (
    "controls",
    "spec",
    "channel",
    "evaluation",
    "interfaces",
    "tasks",
    "training",
    "pairs",
)


def test_the_project_file_is_as_the_milestones_declare() -> None:
    written = project_file()
    assert PATH.read_text() == written, "make mlproject"
    entry = yaml.safe_load(written)["entry_points"]["m4"]
    assert entry["parameters"]["margin_points"] == {"type": "float", "default": 1}
    assert entry["parameters"]["source"] == {"type": "string", "default": "local"}
    assert entry["command"].startswith("python entry_points/run.py m4 --pair {pair} ")


def test_a_milestone_is_a_module_that_declares_parameters() -> None:
    assert {"main", "m0", "baselines", "preflight", "published"} <= set(questions())
    assert not {"__init__", "grid", "registry", "milestone"} & set(questions())
    for asked in questions().values():
        assert asked.endswith((".", "?")), "a docstring's first line ends in the middle"


@pytest.mark.parametrize("name", questions())
def test_a_milestone_or_the_module_that_it_names_does_its_work(name: str) -> None:
    module = import_module(f"latentwire.milestones.{name}")
    work = FOLDER / f"{getattr(module, 'WORK', name)}.py"
    defined = {each.name for each in ast.parse(work.read_text()).body if hasattr(each, "name")}
    wanted = {"conditions", "run_on", "run"} if work.stem == name else {"run_on", "run"}
    assert defined & wanted


def test_the_paths_of_before_run_their_milestones() -> None:
    options = ["--kv-bits", "4"]
    assert chosen("m2", options) == ("m2", "m2.py", options)
    assert chosen("run", ["m2", *options]) == ("m2", "run.py m2", options)
    links = [path for path in (ROOT / "entry_points").glob("*.py") if path.stem != "run"]
    assert {path.resolve() for path in links} == {ROOT / "entry_points" / "run.py"}
    assert {path.stem for path in links} <= set(questions())


# Every help text and list, and values that are wrong; then what all of it has imported, and what M4
# needs.
STARTS = """
import sys
from latentwire import cli
from latentwire.run_entry_point import main
from latentwire.listing import KINDS
from latentwire.errors import LatentWireError
from latentwire.milestones.registry import load_milestone, questions

starts = [(cli.main, [typed.split()]) for typed in (
    "--help", "--version", "submit --help", "run m2 --help", *(f"list {kind}" for kind in KINDS)
)]
starts.append((main, ["run", ["--help"]]))
starts += [(main, ["run", [name, "--help"]]) for name in questions()]
wrong = [(main, ["run", ["m2", f"--{name}", value]]) for name, value in (
    ("kv-bits", "five"), ("codec", "kivi5"), ("pair", "dmo"), ("calibration", "nowhere")
)]
wrong.append((main, ["run", ["m4", "--pair", "nowhere.yaml"]]))
for name in questions():  # wrong by themselves, beside defaults that take seconds to read
    for parameter in load_milestone(name).parameters:
        try:
            parameter.parse("wrong,,")
        except (ValueError, LatentWireError):
            wrong.append((main, ["run", [name, parameter.option, "wrong,,"]]))
print("wrong:", len(wrong))
for start, arguments in [*starts, *wrong]:
    try:
        if start(*arguments) == 0:
            print("ended with 0")
    except SystemExit as end:
        print("ended with", end.code)
print("imported:", *sys.modules)
import latentwire.milestones.budget_curves
print("to draw:", *sys.modules)
"""
TAKES_SECONDS = {
    *("torch", "transformers", "tokenizers", "datasets", "huggingface_hub", "mlflow", "sqlalchemy"),
    *("numpy", "pandas", "scipy", "statsmodels", "matplotlib", "triton", "rich", "requests"),
}


def test_nothing_heavy_is_imported_for_a_help_text_or_a_wrong_parameter() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "C2C")])
    done = subprocess.run(
        [sys.executable, "-c", STARTS],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "\n  m2         M2: what does precision cost?" in done.stdout
    assert done.stdout.count("ended with 0") == len(questions()) + 5 + len(KINDS)
    refusals = done.stderr.splitlines()
    assert refusals[0] == "error: kv_bits=five: must be one of 2, 3, 4, 8, 16 bits"
    wrong = int(done.stdout.partition("wrong: ")[2].split()[0])
    assert len(refusals) == done.stdout.count("ended with 2") == wrong > 200
    assert all(line.startswith("error: ") for line in refusals)
    imported, drawing = (
        set(done.stdout.rpartition(f"{w}: ")[2].split("\n")[0].split())
        for w in ("imported", "to draw")
    )
    assert "latentwire.milestones.m2" in imported
    assert not TAKES_SECONDS & imported
    assert "matplotlib" in drawing
    assert not {"torch", "transformers"} & drawing  # M4 reads; no model is asked


def test_a_name_that_no_milestone_has() -> None:
    with pytest.raises(SystemExit, match="2"):
        chosen("run", [])
    with pytest.raises(LatentWireError, match="unknown entry point 'grid'; known: baselines, "):
        load_milestone("grid")


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
    packages = {path.parent.name for path in (ROOT / "latentwire").glob("*/__init__.py")}
    assert packages == set(LAYERS)
    for number, layer in enumerate(LAYERS):
        above = {f"latentwire.{name}" for name in LAYERS[:number]}
        for path in (ROOT / "latentwire" / layer).rglob("*.py"):
            for name in imports(path):
                package = ".".join(name.split(".")[:2])
                assert package not in above, f"{path.name} imports {name}"


def test_tasks_alone_know_datasets_and_letters() -> None:
    """A name or a letter anywhere else is one more edit for who adds a task."""
    known = re.compile(rf"""["']({"|".join(TASKS)}|{"".join(LETTERS)})["']|A to D""")
    for path in (ROOT / "latentwire").rglob("*.py"):
        if path.parent.name != "tasks":
            found = known.search(path.read_text())
            assert found is None, f"{path}: {found and found[0]}"


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
    for name in questions():
        assert f"| `{name}` |" in readme


def test_no_gain_is_never_called_no_communication() -> None:
    """With the published pair 18 % of the letters change at a gain of about zero: what is not shown
    is a benefit."""
    told = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    told += [path for path in (ROOT / "latentwire").rglob("*") if path.suffix in TOLD]
    for path in told:
        text = " ".join(path.read_text(encoding="utf-8").split())
        for sentence in re.split("[.;|]", text):
            if " communicated" not in sentence:  # of all that is told, nearly everything
                continue
            found = re.search(r".*\b(nothing|no content)\b.* communicated", sentence)
            assert not found or "not that nothing" in found[0], f"{path}: {found[0]}"
