"""A disk that is full, really: a small file system in a namespace of its own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from blank_pictures import DRAWN
from launched import Launcher, launcher_process, options_of, surroundings, the_launcher
from mlflow import MlflowClient
from small_hub import small_hub
from tests_support import ROOT, Project, empty_store

GRID = {"pair": "demo", "dataset": "demo_facts", "limit": 64, "chunk_size": 16, "kv_bits": "8,4"}


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


@pytest.fixture(scope="module")
def from_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Launcher, dict[str, str]]]:
    """What starts entry points that load from a hub, and their environment. All have one cache's
    path, at which each test mounts its own."""
    home = tmp_path_factory.mktemp("hub") / "home"
    home.mkdir()
    with small_hub(REPOSITORIES) as uri:
        environment = surroundings() | {"HF_ENDPOINT": uri, "HF_HOME": str(home)}
        del environment["HF_HUB_OFFLINE"]
        with launcher_process(environment) as (path,):
            launcher = Launcher(path, environment)
            yield launcher, environment
            launcher.close()


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


class Room:
    """A mount namespace: what is mounted in it nobody else sees. A shell keeps it until the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keeper = subprocess.Popen(
            ["unshare", "-rm", "bash", "-c", "echo there; read"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._keeper.stdout and self._keeper.stdout.readline() == "there\n"

    def __enter__(self) -> "Room":
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.communicate("\n", timeout=60)

    def run(self, script: str, env: dict[str, str] | None = None) -> str:
        """All that a script has printed, which must end with 0, in the folder."""
        inside = ["nsenter", "--user", "--mount", "--preserve-credentials"]
        inside += [f"--target={self._keeper.pid}", "bash", "-c"]
        done = subprocess.run(
            [*inside, f"cd {self.folder} && {script}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True, timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(
        self,
        entry: str,
        parameters: Mapping[str, object],
        env: dict[str, str],
        launcher: Launcher | None = None,
    ) -> tuple[int, str]:
        """An entry point in the folder: exit status, and all it said."""
        process = (launcher or the_launcher()).start(
            entry, options_of(parameters), self.folder, env, within=self._keeper.pid
        )
        said = "".join(process.communicate(timeout=1200))
        return process.wait(), said

    def start_anew(
        self, entry: str, parameters: Mapping[str, object], env: dict[str, str]
    ) -> tuple[int, str]:
        """The same with imports of its own, which take as long as they take users."""
        command = [sys.executable, f"{ROOT}/entry_points/{entry}.py", *options_of(parameters)]
        printed = self.run(f"{' '.join(command)} 2>&1; echo $?", env)
        said, status = printed.rstrip().rsplit("\n", 1)
        return int(status), said


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "kilobytes"), [("mlruns", 160), ("outbox", 8)])
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_full_disk_is_one_sentence_and_costs_nothing(
    tmp_path: Path, calm: dict[str, tuple[float, ...]], folder: str, kilobytes: int
) -> None:
    project = Project.with_store(tmp_path)
    drawn = project.env | {DRAWN: "yes"}  # real ones fill the disk
    with Room(tmp_path) as room:
        room.run(f"mkdir -p {folder} && mount -t tmpfs -o size={kilobytes}k tmpfs {folder}")
        status, said = room.start("m2", GRID, drawn)
        shutil.copy(tmp_path / "mlflow.db", tmp_path / "first.db")
        room.run(f"mount -o remount,size=64m {folder}")
        second_status, second = room.start("m2", GRID, project.env)
    assert status in (1, 2), said
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "no room for" in sentence and str(tmp_path / folder) in sentence
    assert "make room and start again" in sentence and "Traceback" not in said
    first = Project(tmp_path, f"sqlite:///{tmp_path}/first.db")
    assert first.left_running("milestone", "condition", "chunk") == []
    assert second_status == 0, second
    assert project.numbers() == calm


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (
            "rw",
            {
                "fast": ["to download: about 6.7 MB", "set HF_HOME to a larger disk"],
                "skip": ["the model me/", "no room in the cache", "set HF_HOME to a larger disk"],
            },
        ),
        (
            "ro",
            {
                "fast": ["cannot be written", "to mend: set HF_HOME"],
                "skip": ["the fuser me/fusers/final", "no right to write to the cache"],
            },
        ),
    ],
)
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_cache_without_room_for_a_download(
    tmp_path: Path,
    from_hub: tuple[Launcher, dict[str, str]],
    mode: str,
    says: dict[str, list[str]],
) -> None:
    """With each preflight; a start that has room then does the work, whatever they have left."""
    launcher, env = from_hub
    (tmp_path / "hub.yaml").write_text(HUB_PAIR)
    project = Project.with_store(tmp_path)
    env = env | {"MLFLOW_TRACKING_URI": project.uri}
    home = env["HF_HOME"]
    parameters = {"pair": "./hub.yaml", "limit": 4, "kv_bits": 8}
    with Room(tmp_path) as room:
        room.run(f"mount -t tmpfs -o size=4m tmpfs {home} && mount -o remount,{mode} {home}")
        for preflight, words in says.items():
            given = parameters | {"preflight": preflight}
            if (preflight, mode) == ("skip", "ro"):  # imports too are done with such a cache
                status, said = room.start_anew("m2", given, env)
            else:
                status, said = room.start("m2", given, env, launcher)
            assert status == 2, said
            assert "Traceback" not in said and said.count("error: ") == 1
            assert all(part in said for part in words), said
            assert project.runs("chunk") == project.left_running("milestone", "chunk") == []
        room.run(f"mount -o remount,rw,size=64m {home}")
        status, said = room.start("m2", parameters | {"preflight": "fast"}, env, launcher)
    assert status == 0, said
    assert len(project.runs("chunk")) == 2
    assert project.left_running("milestone", "chunk") == []


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system (unshare -rm)")
def test_a_project_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    """Store and outbox elsewhere are enough to work in it."""
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    there = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{elsewhere}/mlflow.db",
        "LATENTWIRE_OUTBOX": f"{elsewhere}/outbox",
    }
    env, parameters = Project(tmp_path).env, GRID | {"limit": 4}
    with Room(folder) as room:
        room.run(f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}")
        status, said = room.start("m2", parameters, env)
        empty_store(elsewhere)
        client = MlflowClient(there["MLFLOW_TRACKING_URI"])
        client.create_experiment("latentwire", artifact_location=str(elsewhere / "files"))
        second_status, second = room.start("m2", parameters, env | there)
    assert status in (1, 2), said
    assert "Traceback" not in said and said.count("error: ") == 1
    assert "MLFLOW_TRACKING_URI" in said
    assert second_status == 0, second
    assert len(Project(tmp_path, there["MLFLOW_TRACKING_URI"]).runs("chunk")) == 4
    assert not list(folder.iterdir())
