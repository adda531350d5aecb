"""What docs/your_own.md and its notebook say works, as it stands there, in one store."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from launched import the_launcher

import latentwire as lw
from latentwire.milestones.registry import load_milestone
from latentwire.tracking import outbox

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "your_own.md"
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_curve.ipynb"
MOST_TIMES = 8  # what the imports alone take: a notebook that takes seconds is mostly these
IMPORTS = """
import matplotlib.pyplot, mlflow, pathlib, time, torch, transformers
pathlib.Path("imports_s").write_text(str(time.process_time()))
"""
LIMIT = "4"  # questions of a known set
AS_IN_README = [
    "--env-manager",
    "local",
    "--experiment-name",
    "latentwire",
]  # one place for all runs

# The page's own shell, but for `mlflow`, whose commands are written down: a null behind each word,
# and two behind the last.
SHELL = """
mlflow() { printf '%s\\0' "$@" '' >> commands; }
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def commands_of(block: str, before: str) -> list[list[str]]:
    """The commands of `mlflow` in a block, which runs in the working directory; `before` sets what
    earlier blocks have set."""
    subprocess.run(["bash", "-euc", SHELL + before + block], check=True)
    path = Path("commands")
    words = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return [part.split("\0") for part in words.split("\0\0") if part]


def start(command: list[str]) -> lw.MilestoneResult:
    """What `mlflow run` would start, with few questions."""
    assert command[:3] == ["run", ".", "-e"] and command[4:8] == AS_IN_README
    name, given = command[3], dict(word.split("=", 1) for word in command[9::2])
    assert set(command[8::2]) <= {"-P"}
    if any(each.name == "limit" for each in load_milestone(name).parameters):
        given["limit"] = LIMIT
    return lw.run(name, **given)


@pytest.mark.slow
def test_every_command_of_the_page_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    blank: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outbox, "subprocess", the_launcher().subprocess())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    (tmp_path / "latentwire").symlink_to(ROOT / "latentwire")
    shell = blocks("bash")
    said = "\n".join(re.findall(r"^\w+=.*", "\n".join(shell), re.MULTILINE)) + "\n"
    done = [start(command) for block in shell for command in commands_of(block, said)]
    assert len(done) == PAGE.read_text().count("mlflow run . -e")
    curves = [each.curve for each in done if each.curve is not None]
    assert len(curves) == len(done) - 1  # training alone has none
    assert {name for curve in curves for name in curve["dataset"]} == {
        *("capitals", "birds", "notes:extractive", "demo_facts")
    }
    assert {name for curve in curves for name in curve["pair"]} >= {"self:receiver", "mine"}
    capsys.readouterr()
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), known := {})
        assert set(known["answers"]["pair"]) == {"demo"}
    assert "int" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    script = IMPORTS + "\n".join("".join(cell["source"]) for cell in code)
    script += "\nassert len(done.curve) == 4 and len(answers) == 20"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}:{ROOT / 'C2C'}", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    imports_s = float((tmp_path / "imports_s").read_text())
    assert used < MOST_TIMES * imports_s, f"{used:.1f} CPU seconds, of imports {imports_s:.1f}"
