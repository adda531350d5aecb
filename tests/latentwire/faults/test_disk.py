"""A disk that is full, really: a small file system in a namespace of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_hub import small_hub
from tests_support import ROOT, Project

GRID = {"pair": "demo", "dataset": "demo_facts", "limit": 64, "chunk_size": 4, "kv_bits": "8,4"}
OPTIONS = [text for k, v in GRID.items() for text in ("--" + k.replace("_", "-"), str(v))]

# Two starts, with room made between them, and what the store held after the first.
SCRIPT = """
mkdir -p {folder} && mount -t tmpfs -o size={kilobytes}k tmpfs {folder} || exit 77
{python} {root}/entry_points/m2.py {options} > first.txt 2>&1; echo $? > first.status
cp mlflow.db first.db
mount -o remount,size=64m {folder}
{python} {root}/entry_points/m2.py {options} > second.txt 2>&1; echo $? > second.status
"""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, ...]]:
    project = Project.with_store(tmp_path_factory.mktemp("calm"))
    project.ok("m2", **GRID)
    return project.numbers()


HUB_PAIR = """
name: hubbed
description: the bundled pair, from a hub
receiver: {repo: me/receiver}
sharer: {repo: me/sharer}
fuser: {repo: me/fusers, subfolder: final}
datasets: [demo_facts]
shared_tokenizer: true
"""
DEMO = ROOT / "latentwire" / "pairs" / "demo"
REPOSITORIES = {
    "me/receiver": DEMO / "receiver",
    "me/sharer": DEMO / "sharer",
    "me/fusers": DEMO / "fuser",
}

# Two starts; before the second there is room, and it may be written to.
DOWNLOAD = """
mkdir home && mount -t tmpfs -o size=4m tmpfs home && mount -o remount,{mode} home || exit 77
{m2} > first.txt 2>&1; echo $? > first.status
mount -o remount,rw,size=64m home
{m2} > second.txt 2>&1; echo $? > second.status
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def alone(script: str, folder: Path, env: dict[str, str], timeout_s: int) -> None:
    """Run a script whose mounts nobody else sees."""
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script],
        cwd=folder, env=env, capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def ended(folder: Path, start: str) -> tuple[str, str]:
    """Exit status of the `first` or `second` start of a script, and all it said."""
    status = (folder / f"{start}.status").read_text().strip()
    return status, (folder / f"{start}.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "kilobytes"), [("mlruns", 160), ("outbox", 24)])
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_full_disk_is_one_sentence_and_costs_nothing(
    tmp_path: Path, calm: dict[str, tuple[float, ...]], folder: str, kilobytes: int
) -> None:
    project = Project.with_store(tmp_path)
    script = SCRIPT.format(
        folder=folder, kilobytes=kilobytes, python=sys.executable, root=ROOT,
        options=" ".join(OPTIONS),
    )  # fmt: skip
    alone(script, tmp_path, project.env, 1200)
    status, said = ended(tmp_path, "first")
    assert status in ("1", "2"), said
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "no room for" in sentence and str(tmp_path / folder) in sentence
    assert "make room and start again" in sentence and "Traceback" not in said
    first = Project(tmp_path, f"sqlite:///{tmp_path}/first.db")
    assert first.left_running("milestone", "condition", "chunk") == []
    status, said = ended(tmp_path, "second")
    assert status == "0", said
    assert project.numbers() == calm


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preflight", "mode", "says"),
    [
        ("fast", "rw", ["to download: about 6.7 MB", "set HF_HOME to a larger disk"]),
        ("skip", "rw", ["the model me/", "no room in the cache", "set HF_HOME to a larger disk"]),
        ("fast", "ro", ["cannot be written", "to mend: set HF_HOME"]),
        ("skip", "ro", ["the fuser me/fusers/final", "no right to write to the cache"]),
    ],
)
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_cache_without_room_for_a_download(
    tmp_path: Path, preflight: str, mode: str, says: list[str]
) -> None:
    (tmp_path / "hub.yaml").write_text(HUB_PAIR)
    m2 = f"{sys.executable} {ROOT}/entry_points/m2.py --pair ./hub.yaml --limit 4 --kv-bits 8"
    script = DOWNLOAD.format(mode=mode, m2=f"{m2} --preflight {preflight}")
    project = Project.with_store(tmp_path)
    with small_hub(REPOSITORIES) as uri:
        env = project.env | {"HF_ENDPOINT": uri, "HF_HOME": str(tmp_path / "home")}
        env.pop("HF_HUB_OFFLINE")
        alone(script, tmp_path, env, 1200)
    status, said = ended(tmp_path, "first")
    assert status == "2", said
    assert "Traceback" not in said and said.count("error: ") == 1
    assert all(words in said for words in says), said
    status, second = ended(tmp_path, "second")
    assert status == "0", second
    assert len(project.runs("chunk")) == 2
    assert project.left_running("milestone", "chunk") == []


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_project_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    """Store and outbox elsewhere are enough to work in it."""
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    elsewhere = f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/elsewhere/mlflow.db"
    elsewhere += f" LATENTWIRE_OUTBOX={tmp_path}/elsewhere/outbox"
    m2 = f"{sys.executable} {ROOT}/entry_points/m2.py {' '.join(OPTIONS)} --limit 4"
    experiment = (
        "import mlflow; mlflow.create_experiment('latentwire', "
        f"artifact_location='{tmp_path}/elsewhere/files')"
    )
    script = f"""
    mount --bind project project && mount -o remount,bind,ro project && cd project || exit 77
    {m2} > ../first.txt 2>&1; echo $? > ../first.status
    {elsewhere} {sys.executable} -c "{experiment}" > /dev/null 2>&1
    {elsewhere} {m2} > ../second.txt 2>&1; echo $? > ../second.status
    """
    alone(script, tmp_path, Project(tmp_path).env, 200)
    status, said = ended(tmp_path, "first")
    assert status in ("1", "2"), said
    assert "Traceback" not in said and said.count("error: ") == 1
    assert "MLFLOW_TRACKING_URI" in said
    status, second = ended(tmp_path, "second")
    assert status == "0", second
    assert len(Project(tmp_path, f"sqlite:///{tmp_path}/elsewhere/mlflow.db").runs("chunk")) == 4
    assert not list((tmp_path / "project").iterdir())
