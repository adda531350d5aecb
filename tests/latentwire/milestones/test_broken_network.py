"""A tracking server behind a network that breaks: work goes on, and all arrives exactly once."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from broken_network import (
    CUT,
    DROPPED,
    PASS,
    REFUSED,
    UNANSWERED,
    Network,
    always,
    broken_network,
    now_and_then,
)
from servers import mlflow_server
from tests_support import Project, empty_store

from latentwire.tracking.finished_chunks import chunk_name
from latentwire.tracking.runs import CHUNK, FINGERPRINT

GRID: dict[str, Any] = {
    "pair": "demo",
    "dataset": "demo_facts",
    "limit": 48,
    "chunk_size": 8,
    "kv_bits": 8,
}
LONG = GRID | {"limit": 64}
Numbers = dict[str, tuple[float, ...]]


@contextmanager
def remote(folder: Path) -> Iterator[tuple[Project, Network]]:
    """A project whose store is a server that it reaches through a proxy."""
    (folder / "server").mkdir()
    database = empty_store(folder / "server")
    with (
        mlflow_server(folder / "server", f"sqlite:///{database}") as port,
        broken_network(port) as network,
    ):
        yield Project(folder, network.uri, database), network


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.with_store(tmp_path_factory.mktemp("calm"))
    project.ok("m2", **LONG)
    return project


@pytest.fixture(scope="module")
def long_calm(undisturbed: Project) -> Numbers:
    return undisturbed.numbers()


@pytest.fixture(scope="module")
def calm(undisturbed: Project, long_calm: Numbers) -> Numbers:
    """Of the shorter grid, with whose chunks the longer one begins."""
    spans = {run.data.tags[FINGERPRINT]: run.data.tags[CHUNK] for run in undisturbed.runs("chunk")}
    last = chunk_name(GRID["limit"] - GRID["chunk_size"], GRID["limit"])
    return {key: numbers for key, numbers in long_calm.items() if spans[key] <= last}


def nothing_is_left(project: Project) -> None:
    assert project.left_running("milestone", "condition", "chunk") == []
    assert not list((project.folder / "outbox").rglob("*.json*"))


def letters(project: Project) -> int:
    return len(list((project.folder / "outbox").rglob("*.json")))


@pytest.mark.slow
def test_work_goes_on_while_the_server_is_broken(tmp_path: Path, long_calm: Numbers) -> None:
    with remote(tmp_path) as (project, network):
        process = project.start("m2", **LONG)
        while not project.count("chunk", "FINISHED"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        deadline = time.monotonic() + 240
        there = project.count("chunk", "FINISHED")
        units = len(long_calm) // 2  # the two conditions of a span travel in one letter
        for what, least in ((REFUSED, units // 4), (DROPPED, units // 2)):
            network.fault = always(what)
            while letters(project) < least or not met(network, what):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, (letters(project), units, network.done)
                time.sleep(0.1)
        # All that was computed meanwhile waits; the store has no more than before.
        assert project.count("chunk", "FINISHED") <= there + 1
        network.fault = always(PASS)
        _, err = process.communicate(timeout=1200)
        assert process.returncode == 0, err
        assert project.numbers() == long_calm
        nothing_is_left(project)


def met(network: Network, what: str) -> bool:
    """Whether a request has met that fault."""
    return network.done["GET", what] + network.done["POST", what] > 0


@pytest.mark.slow
def test_lost_answers_count_nothing_twice(tmp_path: Path, calm: Numbers) -> None:
    """Requests are carried out, but who asked does not get to know."""
    with remote(tmp_path) as (project, network):
        network.fault = now_and_then(0.25, 5, UNANSWERED, CUT)
        process = project.start("m2", **GRID)
        _, err = process.communicate(timeout=1200)
        network.fault = always(PASS)
        assert process.returncode == 0, err
        assert min(network.done["POST", what] for what in (UNANSWERED, CUT)) >= 5, network.done
        assert project.numbers() == calm
        nothing_is_left(project)


@pytest.mark.slow
def test_killed_and_resumed_on_a_bad_network(tmp_path: Path, calm: Numbers) -> None:
    chance = random.Random(11)
    with remote(tmp_path) as (project, network):
        network.fault = now_and_then(0.1, 3, REFUSED, DROPPED, UNANSWERED, CUT)
        for _ in range(3):
            process = project.start("m2", **GRID)
            begun = network.done.total()
            while network.done.total() < begun + 40 and process.poll() is None:
                time.sleep(0.05)
            time.sleep(chance.uniform(0, 2))
            process.kill()
            process.communicate()
        network.fault = always(PASS)
        project.ok("m2", **GRID)
        assert project.numbers() == calm
        nothing_is_left(project)
