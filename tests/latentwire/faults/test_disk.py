"""A disk that is full, really: a small file system in a namespace of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import ROOT, Project

GRID = {"pair": "demo", "dataset": "demo_facts", "limit": 64, "chunk_size": 4, "kv_bits": "8,4"}
OPTIONS = [text for k, v in GRID.items() for text in ("--" + k.replace("_", "-"), str(v))]

# Two starts, with room made between them; what the store then holds is printed last.
SCRIPT = """
mkdir -p {folder} && mount -t tmpfs -o size={kilobytes}k tmpfs {folder} || exit 77
{python} {root}/entry_points/m2.py {options} > first.txt 2>&1; echo $? > first.status
{python} - <<'END'
from tests_support import Project
from pathlib import Path
levels = ("milestone", "condition", "chunk")
print(*(len(Project(Path()).runs(level, "RUNNING")) for level in levels))
END
mount -o remount,size=64m {folder}
{python} {root}/entry_points/m2.py {options} > second.txt 2>&1; echo $? > second.status
{python} - <<'END'
import json
from tests_support import Project
from pathlib import Path
print(json.dumps(Project(Path()).numbers()))
END
"""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    project = Project(tmp_path_factory.mktemp("calm"))
    project.ok("m2", **GRID)
    return {name: list(values) for name, values in project.numbers().items()}


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "kilobytes"), [("mlruns", 160), ("outbox", 24)])
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_full_disk_is_one_sentence_and_costs_nothing(
    tmp_path: Path, calm: dict[str, list[float]], folder: str, kilobytes: int
) -> None:
    project = Project(tmp_path)
    script = SCRIPT.format(
        folder=folder, kilobytes=kilobytes, python=sys.executable, root=ROOT,
        options=" ".join(OPTIONS),
    )  # fmt: skip
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script],
        cwd=tmp_path,
        env=project.env | {"PYTHONPATH": f"{ROOT}:{ROOT / 'C2C'}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "first.txt").read_text()
    assert (tmp_path / "first.status").read_text().strip() in ("1", "2"), said
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "no room for" in sentence and str(tmp_path / folder) in sentence
    assert "make room and start again" in sentence and "Traceback" not in said
    running, numbers = done.stdout.strip().splitlines()[-2:]
    assert running == "0 0 0"
    assert (tmp_path / "second.status").read_text().strip() == "0", (
        tmp_path / "second.txt"
    ).read_text()
    assert json.loads(numbers) == calm
