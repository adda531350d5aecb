"""Tracking stores that work, and every way in which one may not."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from servers import free_port
from small_server import small_server

from latentwire.checks import store
from latentwire.checks.report import CheckWarning
from latentwire.checks.store import check_artifacts, check_store, round_trip
from latentwire.errors import LatentWireError
from latentwire.redaction import redact_uri
from latentwire.tracking.store import Store, http_get


def run_on(found: Store, location: str) -> tuple[Store, str]:
    """A run whose artifacts go to a location."""
    name = f"{len(found.client.search_experiments())} {location}"
    experiment = found.client.create_experiment(name, artifact_location=location)
    return replace(found, experiment_id=experiment), found.client.create_run(experiment).info.run_id


def test_a_sqlite_file_that_is_there_or_is_not(sqlite_store: Store, tmp_path: Path) -> None:
    assert check_store(sqlite_store.uri).endswith("mlflow.db")
    assert check_store(f"sqlite:///{tmp_path}/new/mlflow.db").endswith("which a run makes")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_fails() -> None:
    with pytest.raises(LatentWireError, match=r"/proc/1/mlflow\.db cannot be written"):
        check_store("sqlite:////proc/1/mlflow.db")


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("these are no tables" * 100)
    with pytest.raises(LatentWireError, match="file is not a database"):
        check_store(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_database_that_another_holds_is_doubted(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT_S", 0.1)
    other = sqlite3.connect(sqlite_store.uri.removeprefix("sqlite:///"))
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CheckWarning, match="held by another process"):
            check_store(sqlite_store.uri)
    finally:
        other.close()


def test_sqlite_on_a_network_file_system_is_doubted(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "file_system", lambda path: "nfs4")
    with pytest.raises(CheckWarning, match=r"SQLite on a network file system \(nfs4\)"):
        check_store(sqlite_store.uri)


def test_a_server_that_is_down_fails() -> None:
    with pytest.raises(
        LatentWireError, match=r"no tracking server answers at http://me:\*\*\*@127"
    ):
        check_store(f"http://me:secret@127.0.0.1:{free_port()}")


def test_a_servers_password_is_not_shown() -> None:
    with pytest.raises(LatentWireError) as error:
        http_get(f"http://me:secret@127.0.0.1:{free_port()}")
    assert "secret" not in str(error.value)
    assert redact_uri("http://server:5000") == "http://server:5000"


def test_a_server_that_is_broken_fails() -> None:
    with small_server(status=503) as uri, pytest.raises(LatentWireError, match="answers 503"):
        check_store(uri)


def test_a_server_of_another_version_is_doubted() -> None:
    with small_server(body=b"3.99.0") as uri:
        assert check_store(uri) == f"{uri}, MLflow 3.99.0"
    with (
        small_server(body=b"1.2.3") as uri,
        pytest.raises(CheckWarning, match=r"is MLflow 1\.2\.3"),
    ):
        check_store(uri)
    with small_server(body=b"<html>") as uri:
        assert check_store(uri) == uri


def test_artifacts_go_where_they_can_be_written(sqlite_store: Store) -> None:
    assert "artifacts go to" in check_artifacts(sqlite_store)
    assert "made by the first run" in check_artifacts(replace(sqlite_store, experiment_id=""))


def test_an_artifact_folder_that_cannot_be_written_fails(sqlite_store: Store) -> None:
    refusing, run_id = run_on(sqlite_store, "/proc/1/files")
    with pytest.raises(LatentWireError, match="artifact folder /proc/1/files cannot be written"):
        check_artifacts(refusing)
    with pytest.raises(LatentWireError, match="could not be stored and read back"):
        round_trip(refusing, run_id)


def test_an_artifact_comes_back(sqlite_store: Store) -> None:
    run_id = sqlite_store.client.create_run(sqlite_store.experiment_id).info.run_id
    assert "written and read back" in round_trip(sqlite_store, run_id)


def test_a_server_that_refuses_artifacts_fails(sqlite_store: Store) -> None:
    asked: list[str] = []
    with small_server(status=403, asked=asked) as uri:
        address = f"{uri}/api/2.0/mlflow-artifacts/artifacts"
        found, run_id = run_on(sqlite_store, address)
        assert check_artifacts(found) == f"artifacts go to {address}"
        with pytest.raises(LatentWireError, match=r"could not be stored and read back: .*403"):
            round_trip(found, run_id)
    assert any(line.startswith("PUT") for line in asked)


def test_an_artifact_that_comes_back_altered_fails(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = sqlite_store.client.create_run(sqlite_store.experiment_id).info.run_id
    (tmp_path / "x").write_text("something else")
    monkeypatch.setattr(
        sqlite_store.client, "download_artifacts", lambda *arguments: str(tmp_path / "x")
    )
    with pytest.raises(LatentWireError, match="came back altered"):
        round_trip(sqlite_store, run_id)
