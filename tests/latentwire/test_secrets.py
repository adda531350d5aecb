"""Secrets that are planted wherever users have them, and looked for in all that is left behind."""

import zipfile
from pathlib import Path

import pytest
from mlflow import MlflowClient
from studies import made_by_mlflow
from tests_support import Project

from latentwire.cli import main
from latentwire.tracking.store import Store

VARIABLES = {
    "HUGGING_FACE_HUB_TOKEN": "planted-hub-token",
    "MLFLOW_TRACKING_PASSWORD": "planted-server-password",
    "MLFLOW_TRACKING_TOKEN": "planted-server-token",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-key",
    "AWS_SESSION_TOKEN": "planted-aws-session",
    "PGPASSWORD": "planted-database-password",
    "SLURM_JOB_ID": "https://planted-in-a-variable@host",
}
GIT_TAGS = {
    "mlflow.source.git.repoURL": "https://me:planted-git-password@host/code.git",
    "mlflow.source.name": "https://planted-git-token@host/code.git#sub",
    "mlflow.gitRepoURL": "https://planted-git-token:x-oauth-basic@host/code.git",
}


def left_behind(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_run_leaves_no_secret_in_its_output_its_store_and_its_artifacts(
    project: Project,
) -> None:
    project.env |= VARIABLES
    done = project.run("m2", pair="demo", dataset="demo_facts", limit=2, kv_bits=4)
    assert done.returncode == 0, done.stderr
    found = left_behind(project.folder)
    assert b"SLURM_JOB_ID" in found and b"planted" not in found  # environment.json has been written
    assert "planted" not in done.stdout + done.stderr


def test_where_a_project_came_from_is_kept_without_its_token(
    project: Project, tmp_path: Path
) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(
        client.create_experiment("latentwire"), tags=made_by_mlflow("m2") | GIT_TAGS
    )
    project.env["MLFLOW_RUN_ID"] = run.info.run_id
    done = project.run("m2", pair="demo", dataset="demo_facts", limit=2, kv_bits=4)
    assert done.returncode == 0, done.stderr
    tags = client.get_run(run.info.run_id).data.tags
    assert tags["mlflow.source.git.repoURL"] == "https://me:***@host/code.git"
    assert "planted" not in str(tags)


def test_an_export_holds_no_token_of_runs_that_were_made_before(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store.client.create_run(store.experiment_id, tags=GIT_TAGS)
    store.client.set_terminated(run.info.run_id)
    assert main(["export", "--experiment", "tests", "study.zip"]) == 0
    with zipfile.ZipFile(tmp_path / "study.zip") as archive:
        found = b"".join(archive.read(name) for name in archive.namelist())
    assert b"host/code.git" in found and b"planted" not in found
    assert "planted" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:planted@db/runs",
        "postgresql://db/runs?user=me&password=planted",
        "https://planted@runs.example.org",
        "http://me:a/planted@runs.example.org",
        "odd://me:planted@host",
    ],
)
def test_no_job_script_holds_an_address_with_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["submit", "m0", "--dry-run", "--then", "m4"]) == 0
    output = capsys.readouterr()
    assert "exec " in output.out and "planted" not in output.out + output.err
    assert "export MLFLOW_TRACKING_URI" not in output.out
