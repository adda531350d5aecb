"""Several processes, workers that die and stores that go away: each chunk once, nothing lost."""

import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from launched import Launched
from servers import (
    database_url,
    free_port,
    mlflow_server,
    postgresql,
    start_mlflow,
    stop_mlflow,
)
from tests_support import Project, empty_store

GRID = {"pair": "demo", "dataset": "demo_facts", "limit": 64, "chunk_size": 4, "kv_bits": 8}

TOGETHER = 3  # processes that start at the same instant

# Takes much longer than the first result takes to the store: by questions rather than by
# conditions, each of which is a run more a chunk.
LONG = GRID | {"limit": 128, "chunk_size": 16, "kv_bits": "8,4"}


@pytest.fixture(scope="module")
def long_calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, ...]]:
    """The same of the longer grid."""
    project = Project.with_store(tmp_path_factory.mktemp("calm"))
    project.ok("m2", **LONG, workers=1)
    return project.numbers()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, ...]]:
    """The numbers of an undisturbed run."""
    project = Project.with_store(tmp_path_factory.mktemp("calm"))
    project.ok("m2", **GRID, workers=1)
    return project.numbers()


def chunks_begin(project: Project, process: "subprocess.Popen[str]") -> None:
    """Return once the process has results in the store."""
    while not project.count("chunk", "FINISHED"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def test_more_workers_than_gpus_are_refused(project: Project) -> None:
    done = project.run("m2", **GRID, device="mps", workers=2)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    done = project.run("m2", **GRID, workers="many")
    assert "workers=many: must be a whole number of at least 1" in done.stderr


@pytest.mark.slow
def test_two_workers_give_the_same_and_the_death_of_one_costs_nothing(
    project: Project, long_calm: dict[str, tuple[float, ...]]
) -> None:
    process = project.start("m2", **(LONG | {"workers": 2}))
    while len(workers := workers_of(process)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    chunks_begin(project, process)
    workers[0].kill()
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    assert "2 workers: cpu, cpu" in out
    assert project.numbers() == long_calm


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The workers: forked from a server, which is a child of the process."""
    found = []
    for server in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # it may end while it is looked at
            if "forkserver" in " ".join(server.cmdline()):
                found += server.children()
    return found


def are_one_study(
    processes: list["subprocess.Popen[str]"], project: Project, calm: dict[str, tuple[float, ...]]
) -> None:
    """All end well, each chunk is computed once, and all draw the numbers of a single process."""
    for process in processes:
        _, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
    assert project.numbers() == calm  # which fails for a chunk that was computed twice
    ran = {run.data.tags["mlflow.parentRunId"] for run in project.runs("chunk")}
    assert len(ran) > 2, "one process did it all"  # under its two conditions
    assert len(project.runs("milestone")) == len(processes)
    aggregates = {
        tuple(sorted(run.data.metrics.items())) + tuple(sorted(run.data.params.items()))
        for run in project.runs("condition")
    }
    assert len(aggregates) == 2  # a codec under two controls, from every process the same
    assert project.left_running("milestone", "condition", "chunk") == []


@pytest.mark.slow
def test_processes_that_start_together_share_the_chunks(
    tmp_path: Path, calm: dict[str, tuple[float, ...]]
) -> None:
    project = Project(tmp_path)  # without a store: one of them makes it
    are_one_study([project.start("m2", **GRID) for _ in range(TOGETHER)], project, calm)


@pytest.mark.servers
def test_processes_on_one_server_share_the_chunks(
    tmp_path: Path, calm: dict[str, tuple[float, ...]]
) -> None:
    with (
        postgresql("mlflow") as database,
        mlflow_server(tmp_path, database_url(database, "mlflow"), workers=2) as port,
    ):
        project = Project(tmp_path, f"http://127.0.0.1:{port}")
        are_one_study([project.start("m2", **GRID) for _ in range(TOGETHER)], project, calm)
        answers = f"{2 * GRID['limit']} of {2 * GRID['limit']} answers are finished"  # type: ignore[operator]
        assert f"m2: 2 conditions, {answers}" in project.ok("m2", **GRID)
        assert "int8" in project.ok("m4")


@pytest.mark.slow
def test_a_process_takes_over_from_one_that_was_killed(
    project: Project, long_calm: dict[str, tuple[float, ...]]
) -> None:
    first = project.start("m2", **LONG)
    chunks_begin(project, first)
    project.halt(first)  # it is alive, so what it has claimed is waited for
    second = project.start("m2", **LONG)
    project.begins_to_wait(second, 6)
    first.kill()
    first.communicate()
    _, err = second.communicate(timeout=1200)
    assert second.returncode == 0, err
    # What the killed one had not delivered is in the outbox; it is not counted twice.
    project.ok("m2", **LONG)
    assert project.numbers() == long_calm
    assert not letters(project)


def serve(folder: Path, port: int) -> Launched:
    path = folder / "mlflow.db"
    store = path if path.exists() else empty_store(folder)
    return start_mlflow(folder, f"sqlite:///{store}", port, "--workers", "1")


@pytest.mark.slow
def test_a_server_that_goes_away_in_mid_grid_loses_nothing(
    tmp_path: Path, long_calm: dict[str, tuple[float, ...]]
) -> None:
    """For longer than a process waits, which ends in a sentence, and then for less."""
    folder, port = tmp_path / "server", free_port()
    folder.mkdir()
    server = serve(folder, port)
    try:
        project = Project(tmp_path, f"http://127.0.0.1:{port}", folder / "mlflow.db")
        usual = project.env
        impatient = {"LATENTWIRE_STORE_PATIENCE_S": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
        project.env = usual | impatient
        process = project.start("m2", **LONG)
        chunks_begin(project, process)
        stop_mlflow(server, signal.SIGKILL)
        _, err = process.communicate(timeout=1200)
        assert process.returncode == 2, err
        assert "they wait in" in err and "Traceback" not in err
        assert letters(project)

        server = serve(folder, port)
        project.env = usual
        there = project.count("chunk", "FINISHED")
        process = project.start("m2", **LONG)
        while project.count("chunk", "FINISHED") == there:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        stop_mlflow(server, signal.SIGKILL)
        assert letters(project)
        time.sleep(6)  # several attempts to deliver, each longer after the one before
        assert process.poll() is None, process.communicate()
        server = serve(folder, port)
        out, err = process.communicate(timeout=1200)
        assert process.returncode == 0, err
        assert "delivering" in out
        assert project.numbers() == long_calm
        assert project.runs("chunk", "RUNNING") == project.runs("milestone", "RUNNING") == []
    finally:
        stop_mlflow(server, signal.SIGKILL)


def letters(project: Project) -> list[Path]:
    """Results that wait for the store."""
    return list((project.folder / "outbox").rglob("*.json"))
