"""The recipe of docs/sharing.md, with real servers: PostgreSQL, and `mlflow server` before it with
basic authentication and proxied artifacts."""

import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from launched import surroundings, the_launcher
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from servers import checked, database_url, mlflow_server, postgresql, postgresql_binaries
from sqlalchemy import create_engine, text
from studies import CONDITIONS, describe, make_plan, write_study
from tests_support import empty_store

from latentwire.analysis.curve import write_csv
from latentwire.cli import main
from latentwire.errors import LatentWireError
from latentwire.milestones.budget_curves import load_curve
from latentwire.tracking.export_import import Transferred, export_study
from latentwire.tracking.finished_chunks import finished_chunks
from latentwire.tracking.store import Store, open_store

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[3]
ADMIN = ("admin", "the admin's, for tests")
WORKERS = (("one", "the first worker's"), ("two", "the second worker's"))
READER = ("reader", "may look only")
MACHINES = ("127.0.0.1", "127.0.0.2")  # two addresses of the loopback network
OPTIONS = (
    "--app-name basic-auth",
    "--backend-store-uri postgresql+psycopg://",
    "--serve-artifacts",
    "--artifacts-destination",
    "--workers",
    "--allowed-hosts",
)
SERVER_VARIABLES = (
    "MLFLOW_AUTH_CONFIG_PATH",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)


@dataclass(frozen=True)
class Shared:
    """A running server."""

    port: int
    folder: Path
    database: str

    def uri(self, machine: str = MACHINES[0]) -> str:
        return f"http://{machine}:{self.port}"

    def environment(self, user: tuple[str, str], machine: str = MACHINES[0]) -> dict[str, str]:
        """What a worker sets."""
        return {
            "MLFLOW_TRACKING_URI": self.uri(machine),
            "MLFLOW_TRACKING_USERNAME": user[0],
            "MLFLOW_TRACKING_PASSWORD": user[1],
        }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The recipe's server, with two workers who may write to experiment `study` and a reader."""
    folder = tmp_path_factory.mktemp("server")
    with postgresql("mlflow", "mlflow_auth", "restored") as port:
        (folder / "auth.ini").write_text(
            textwrap.dedent(f"""
                [mlflow]
                default_permission = READ
                database_uri = {database_url(port, "mlflow_auth").replace("%", "%%")}
                admin_username = {ADMIN[0]}
                authorization_function = mlflow.server.auth:authenticate_request_basic_auth
                auth_cache_ttl_seconds = 60
            """)
        )
        with mlflow_server(
            folder,
            database_url(port, "mlflow"),
            *("--app-name", "basic-auth"),
            *("--allowed-hosts", ",".join(f"{machine}:*" for machine in MACHINES)),
            env=dict(
                zip(
                    SERVER_VARIABLES,
                    (str(folder / "auth.ini"), ADMIN[1], "of these tests"),
                    strict=True,
                )
            ),
            workers=2,
            forked=False,
            host="0.0.0.0",
        ) as web:
            found = Shared(web, folder, database_url(port, "mlflow"))
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("MLFLOW_RUN_ID", raising=False)
                for name, value in found.environment(ADMIN).items():
                    patch.setenv(name, value)
                experiment = open_store("study").experiment_id
                users = get_app_client("basic-auth", tracking_uri=found.uri())
                for name, password in (*WORKERS, READER):
                    users.create_user(name, password)
                for name, _ in WORKERS:
                    users.grant_user_permission(name, "experiment", experiment, "EDIT")
            yield found


@pytest.fixture
def as_user(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, str]], None]:
    """Makes this process a client with that user's name and password."""
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

    def become(user: tuple[str, str]) -> None:
        for name, value in shared.environment(user).items():
            monkeypatch.setenv(name, value)

    return become


def test_two_machines_write_one_study(
    shared: Shared, as_user: Callable[..., None], tmp_path: Path
) -> None:
    """Each computes every second condition of one pair; both finish and all chunks are there."""
    text = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from studies import CHUNKS, CONDITIONS, make_plan, start_condition, write_chunk
        from latentwire.tracking.finished_chunks import finished_chunks
        from latentwire.tracking.runs import RunWriter, SOURCE
        from latentwire.tracking.store import open_store
        number = int(sys.argv[1])
        store = open_store("study")
        writer = RunWriter(store, {{SOURCE: "local"}})
        milestone = writer.start(f"m2 of worker {{number}}", "milestone", None, {{}}, {{}})
        Path(f"ready {{number}}").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        for condition in CONDITIONS[number::2]:
            plan = make_plan(condition, pair="theirs")
            assert finished_chunks(store, [plan.fingerprint]) == {{plan.fingerprint: {{}}}}
            parent = start_condition(writer, milestone, plan)
            for span in CHUNKS:
                write_chunk(writer, parent, plan, span)
            writer.finish(parent)
        writer.finish(milestone)
    """)
    script = tmp_path / "worker.py"
    script.write_text(text)
    workers = [
        the_launcher().start_script(
            script, [str(number)], tmp_path, surroundings() | shared.environment(user, machine)
        )
        for number, (user, machine) in enumerate(zip(WORKERS, MACHINES, strict=True))
    ]
    while len(list(tmp_path.glob("ready *"))) < len(workers):  # both are up before either begins
        for worker in workers:
            assert worker.poll() is None, worker.communicate()
        time.sleep(0.05)
    (tmp_path / "go").touch()
    for worker in workers:
        _, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors
    as_user(READER)
    store = open_store("study")
    for condition in CONDITIONS:
        fingerprint = make_plan(condition, pair="theirs").fingerprint
        spans = finished_chunks(store, [fingerprint])[fingerprint].values()
        assert sorted((chunk.start, chunk.stop) for chunk in spans) == [(0, 3), (3, 5)]
    frame = load_curve(store, ("local",), None, None)
    assert len(frame) == 2 and frame["complete"].all() and frame["pairing_examples"].eq(5).all()
    runs = list(store.search("", [store.experiment_id]))
    milestones = [run for run in runs if run.info.run_name.startswith("m2 of worker")]
    first, second = sorted((run.info.start_time, run.info.end_time) for run in milestones)
    assert second[0] < first[1], "they did not work at the same time"
    assert all(run.info.artifact_uri.startswith("mlflow-artifacts:") for run in runs)
    assert list((shared.folder / "artifacts").rglob("records.jsonl"))


@pytest.mark.parametrize("user", [("one", "not the password"), ("nobody", "knows"), ("", "")])
def test_a_wrong_password_is_one_sentence(
    user: tuple[str, str], as_user: Callable[..., None]
) -> None:
    as_user(user)
    with pytest.raises(
        LatentWireError, match="the tracking server refuses the user name or password"
    ) as caught:
        open_store("study")
    assert "\n" not in str(caught.value) and "not the password" not in str(caught.value)


def test_an_entry_point_says_so_without_a_traceback(shared: Shared, tmp_path: Path) -> None:
    environment = surroundings() | shared.environment(("one", "wrong"))
    process = the_launcher().start("m4", [], tmp_path, environment)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0 and "Traceback" not in errors
    assert "error: the tracking server refuses the user name or password" in errors


def test_who_may_only_read_cannot_write(as_user: Callable[..., None]) -> None:
    as_user(READER)
    store = open_store("study")
    with pytest.raises(MlflowException, match="Permission denied"):
        store.client.create_run(store.experiment_id)


def test_a_study_moves_to_the_server(
    as_user: Callable[..., None],
    shared: Shared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    shutil.copy(empty_store(tmp_path), tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    here = open_store("study")
    write_study(here, tmp_path / "content")
    number = export_study(here, tmp_path / "study.zip", everything=True).written
    expected, drawn = describe(here), drawing(here, tmp_path / "a")
    as_user(ADMIN)  # who may make experiments
    assert main(["import", str(tmp_path / "study.zip"), "--experiment", "moved"]) == 0
    assert f"{number} runs written, 0 were there" in capsys.readouterr().out
    there = open_store("moved", create=False)
    assert describe(there) == expected
    # `newest` chooses by identity; here and in the two machines' test they differ by the pair.
    assert drawing(there, tmp_path / "b") == drawn
    assert main(["import", str(tmp_path / "study.zip"), "--experiment", "moved"]) == 0
    assert f"0 runs written, {number} were there" in capsys.readouterr().out
    # And back, from the server to a file.
    assert export_study(there, tmp_path / "back.zip", everything=True) == Transferred(number)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert main(["import", str(tmp_path / "back.zip")]) == 0
    assert describe(open_store("moved", create=False)) == expected


def test_a_dump_holds_every_run(shared: Shared, tmp_path: Path) -> None:
    """The backup of docs/sharing.md, put back into an empty database."""
    binaries, file = postgresql_binaries(), tmp_path / "mlflow.dump"
    address = shared.database.replace("+psycopg", "")
    checked([binaries / "pg_dump", "--format", "custom", "--file", file, address])
    restored = address.replace("/mlflow", "/restored")
    checked([binaries / "pg_restore", "--no-owner", "--dbname", restored, file])
    counts = []
    for url in (shared.database, shared.database.replace("/mlflow", "/restored")):
        with create_engine(url).connect() as connection:
            counts.append(connection.execute(text("SELECT count(*) FROM runs")).scalar())
    assert counts[0] == counts[1] and counts[0]


def test_the_recipe_is_what_runs_here(shared: Shared) -> None:
    recipe = (ROOT / "docs" / "sharing.md").read_text()
    settings = [
        line.partition(" =")[0] for line in (shared.folder / "auth.ini").open() if "=" in line
    ]
    variables = (*SERVER_VARIABLES, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false")
    for word in (*OPTIONS, *shared.environment(ADMIN), *variables, *settings):
        assert word in recipe, word


def drawing(store: Store, folder: Path) -> bytes:
    """budget_curve.csv of one experiment."""

    class Own(Store):
        def search(self, filter_string="", experiments=None, **names):  # type: ignore[no-untyped-def]
            return super().search(filter_string, experiments or [self.experiment_id], **names)

    own = Own(store.client, store.uri, store.experiment_id)
    frame = load_curve(own, ("local",), None, None)
    path = folder / "budget_curve.csv"
    write_csv(frame, path)
    return path.read_bytes()
