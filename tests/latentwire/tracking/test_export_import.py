import hashlib
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from studies import (
    CONDITIONS,
    describe,
    make_plan,
    make_records,
    start_condition,
    write_chunk,
    write_study,
)
from tests_support import empty_store

from latentwire.analysis.curve import write_csv
from latentwire.cli import main
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import record_lines
from latentwire.milestones.budget_curves import load_curve
from latentwire.tracking import archive as archives
from latentwire.tracking import export_import
from latentwire.tracking.archive import (
    MANIFEST,
    ArchivedRun,
    DatasetInput,
    MetricPoint,
    is_safe,
    open_study,
    study_writer,
)
from latentwire.tracking.export_import import ORIGIN_RUN, Transferred, export_study, import_study
from latentwire.tracking.finished_chunks import finished_chunks
from latentwire.tracking.runs import INSTEAD_OF, LEVEL, SOURCE, RunWriter, mark_killed
from latentwire.tracking.store import Store, open_store

FINISHED = 1 + 4 + 8 + 1  # milestone, conditions, chunks; and the chunk below what was killed
ABOVE = 2  # the condition and milestone that were killed above it

Opened = Callable[[str], Store]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store to copy: making one takes seconds."""
    return empty_store(tmp_path_factory.mktemp("empty"))


def opened_in(folder: Path, patch: pytest.MonkeyPatch) -> Store:
    """The store in a folder, which commands use from now on."""
    patch.delenv("MLFLOW_RUN_ID", raising=False)
    patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    patch.chdir(folder)  # where MLflow puts a local store's artifacts
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return open_store("study")


@pytest.fixture
def at(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the store in a folder of that name, and makes it what commands use."""

    def opened(name: str) -> Store:
        if not (tmp_path / name).exists():
            (tmp_path / name).mkdir()
            shutil.copy(empty, tmp_path / name)
        return opened_in(tmp_path / name, monkeypatch)

    return opened


@pytest.fixture(scope="module")
def written(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study in a store, and exported: to be copied."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copy(empty, folder)
    with pytest.MonkeyPatch.context() as patch:
        store = opened_in(folder, patch)
        write_study(store, folder / "content")
        assert export_study(store, folder / "study.zip") == Transferred(FINISHED + ABOVE)
    return folder


@pytest.fixture
def study(at: Opened, written: Path, tmp_path: Path) -> Path:
    """A small study in the store `here`, exported. The runs' files are in the folder `written`."""
    (tmp_path / "here").mkdir()
    shutil.copy(written / "mlflow.db", tmp_path / "here")
    at("here")
    return Path(shutil.copy(written / "study.zip", tmp_path))


def imported(store: Store, path: Path) -> Transferred:
    with open_study(path) as found:
        return import_study(store, found)


def curve(store: Store, folder: Path) -> bytes:
    frame = load_curve(store, ("local",), None, None)
    path = folder / "budget_curve.csv"
    write_csv(frame, path)
    return path.read_bytes()


def test_a_study_is_the_same_in_another_store(at: Opened, study: Path, tmp_path: Path) -> None:
    here = describe(at("here"))
    drawn = curve(at("here"), tmp_path / "a")
    there = at("there")
    assert imported(there, study) == Transferred(FINISHED + ABOVE)
    expected = {k: v for k, v in here.items() if "attempt 3" not in v["name"]}
    assert describe(there) == expected
    assert {run["status"] for run in expected.values()} == {"FINISHED", "KILLED"}
    losses = [point for run in expected.values() for point in run["history"].get("loss", [])]
    assert len(losses) == 6 and losses[-1][2] == "nan"
    assert curve(there, tmp_path / "b") == drawn
    assert {run.info.run_id for run in there.search("")}.isdisjoint(here)


def test_everything_takes_what_failed_too(at: Opened, study: Path, tmp_path: Path) -> None:
    here = at("here")
    assert export_study(here, tmp_path / "all.zip", everything=True).written == FINISHED + ABOVE + 1
    there = at("there")
    imported(there, tmp_path / "all.zip")
    assert describe(there) == describe(here)


def test_what_still_runs_is_killed_in_the_copy(at: Opened, tmp_path: Path) -> None:
    here = at("here")
    writer = RunWriter(here, {})
    milestone = writer.start("open", "milestone", None, {}, {})
    writer.finish(writer.start("done", "condition", milestone, {}, {}))
    export_study(here, tmp_path / "one.zip")
    there = at("there")
    imported(there, tmp_path / "one.zip")
    assert {run.info.run_name: run.info.status for run in there.search("")} == {
        "open": "KILLED",
        "done": "FINISHED",
    }
    writer.finish(milestone)
    export_study(here, tmp_path / "two.zip")
    assert imported(there, tmp_path / "two.zip") == Transferred(1, 1)
    assert {run.info.status for run in there.search("")} == {"FINISHED"}


def test_a_second_import_writes_nothing(at: Opened, study: Path) -> None:
    there = at("there")
    imported(there, study)
    once = describe(there)
    assert imported(there, study) == Transferred(0, FINISHED + ABOVE)
    assert describe(there) == once
    assert imported(at("here"), study) == Transferred(0, FINISHED + ABOVE)


def test_copies_of_copies_are_known(at: Opened, study: Path, tmp_path: Path) -> None:
    imported(at("second"), study)
    export_study(at("second"), tmp_path / "again.zip")
    third = at("third")
    imported(third, study)
    assert imported(third, tmp_path / "again.zip") == Transferred(0, FINISHED + ABOVE)


def test_chunks_that_were_computed_here_too_are_kept(at: Opened, study: Path) -> None:
    there = at("there")
    writer = RunWriter(there, {})
    plan = make_plan(CONDITIONS[0])
    parent = start_condition(writer, writer.start("own", "milestone", None, {}, {}), plan)
    own = write_chunk(writer, parent, plan, (0, 3))
    assert imported(there, study) == Transferred(FINISHED + ABOVE - 1, 1)
    found = finished_chunks(there, [plan.fingerprint])[plan.fingerprint]
    assert len(found) == 2 and own in {chunk.run_id for chunk in found.values()}
    assert len(list(there.search(f"tags.`{LEVEL}` = 'chunk'"))) == 9


@pytest.mark.parametrize("method", ["log_batch", "log_artifacts", "set_terminated"])
@pytest.mark.parametrize("last", [2, 7])
def test_an_interrupted_import_is_completed(
    at: Opened, study: Path, monkeypatch: pytest.MonkeyPatch, method: str, last: int
) -> None:
    there = at("there")
    works, calls = getattr(there.client, method), [0]

    def stops(*arguments: Any, **named: Any) -> None:
        calls[0] += 1
        if calls[0] > last:
            raise KeyboardInterrupt
        works(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(there.client, method, stops)
        imported(there, study)
    expected = describe(at("here"))
    whole = [run for run in describe(there).items() if run[1]["status"] == "FINISHED"]
    assert all(expected[origin] == run for origin, run in whole)
    # The next milestone on this machine must not take them for runs that are dead: their tags name
    # a process that is gone. Only one that lacks nothing but its status may have these tags.
    assert mark_killed(there) == 0 or method == "set_terminated"
    done = imported(there, study)
    assert done.written > 0 and done.written + done.held == FINISHED + ABOVE
    assert describe(there) == {k: v for k, v in expected.items() if "attempt 3" not in v["name"]}
    assert len(list(there.search(f"tags.`{ORIGIN_RUN}` != ''"))) == FINISHED + ABOVE


def test_an_interrupted_command_says_how_to_go_on(
    at: Opened, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stops(*_: Any) -> None:
        raise KeyboardInterrupt

    at("there")
    with monkeypatch.context() as patch:
        patch.setattr(export_import, "_write", stops)
        assert main(["import", str(study)]) == 130
    assert capsys.readouterr().err == "error: interrupted; start again to go on\n"


def test_a_store_that_fails_is_one_sentence(
    at: Opened, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = at("there")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(there.client, "log_artifacts", full)
    with pytest.raises(LatentWireError, match=r"the import stopped, and goes on.*No space left"):
        imported(there, study)


def test_an_export_that_fails_leaves_no_file(at: Opened, tmp_path: Path) -> None:
    here = at("here")
    writer = RunWriter(here, {})
    milestone = writer.start("m", "milestone", None, {}, {})
    writer.log_text(milestone, "text", "one.txt")
    writer.finish(milestone)
    artifacts = Path(here.client.get_run(milestone).info.artifact_uri)
    (artifacts / "one.txt").unlink()
    (artifacts / "one.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LatentWireError):
        export_study(here, tmp_path / "study.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*"))


def test_the_commands(
    at: Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(at("here"), tmp_path / "content")
    file = tmp_path / "study.zip"
    assert main(["export", str(file), "--experiment", "study"]) == 0
    assert f"{FINISHED + ABOVE} runs, {file.stat().st_size} bytes" in capsys.readouterr().out
    at("there")
    assert main(["import", str(file), "--experiment", "theirs"]) == 0
    assert f"{FINISHED + ABOVE} runs written, 0 were there already" in capsys.readouterr().out
    there = open_store("theirs", create=False)
    assert len(list(there.search("", [there.experiment_id]))) == FINISHED + ABOVE
    for command, words in (
        (["export", str(file), "--experiment", "theirs"], f"{file} exists already"),
        (["export", str(tmp_path / "new"), "--experiment", "no"], "there is no experiment no; "),
        (["export", str(tmp_path / "new"), "--experiment", "study"], "nothing to export"),
        (["import", str(tmp_path / "none")], "cannot be read: No such file"),
        (["import", str(tmp_path / "there" / "mlflow.db")], "is damaged or no exported study"),
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1, error
    assert not (tmp_path / "new").exists()


def test_a_damaged_file_is_refused_before_anything_is_written(
    at: Opened, study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = study.read_bytes()
    study.write_bytes(content[: len(content) // 2])
    untouched = study.parent / "untouched"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{untouched}/mlflow.db")
    assert main(["import", str(study)]) == 2
    error = capsys.readouterr().err
    assert str(study) in error and "is damaged" in error and error.count("\n") == 1
    assert not untouched.exists()


# The archive itself, without a store.

INFINITY, NAN = float("inf"), float("nan")
RUNS = (
    ArchivedRun(
        "a1",
        None,
        "top",
        "FINISHED",
        5,
        6,
        {"k": "v"},
        {"p": ""},
        (
            MetricPoint("m", NAN, 1, 2),
            MetricPoint("m", 0.1, 3, 4),
            MetricPoint("n", -INFINITY, 0, 0),
        ),
        (DatasetInput("d", "1", "local", "s", None, "{}", {"t": "u"}),),
        ("folder/one.txt", "two.bin"),
    ),
    ArchivedRun("b2", "a1", "below", "KILLED", 7, None, {}, {}, (), (), ()),
)
CONTENT = {"folder/one.txt": b"one" * 1000, "two.bin": bytes(range(256))}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number, content in enumerate(CONTENT.values()):
        (folder / str(number)).write_bytes(content)
    places = {name: folder / str(number) for number, name in enumerate(CONTENT)}
    with study_writer(folder / "study.zip", "äh") as writer:
        for run in RUNS:
            writer.add(run, places)
    return folder / "study.zip"


def everything(path: Path, folder: Path) -> tuple[Any, ...]:
    """What a reader sees of an archive."""
    with open_study(path) as found:
        for run in found.runs:
            (folder / run.run_id).mkdir(parents=True, exist_ok=True)
            found.unpack(run, folder / run.run_id)
        files = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return found.experiment, repr(found.runs), files


def test_an_archive_is_read_back(archive: Path, tmp_path: Path) -> None:
    experiment, runs, files = everything(archive, tmp_path)
    assert experiment == "äh" and runs == repr(RUNS)
    assert files == {Path("a1") / name: content for name, content in CONTENT.items()}


def test_the_same_study_makes_the_same_file(archive: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / str(number) for number, name in enumerate(CONTENT)}
    for name, content in CONTENT.items():
        places[name].write_bytes(content)
    with study_writer(tmp_path / "again.zip", "äh") as writer:
        for run in RUNS:
            writer.add(run, places)
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_changed_byte_is_refused_or_changes_nothing(
    archive: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Some bytes, such as an entry's date, mean nothing to a reader."""
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "study.zip").write_bytes(content)
    try:
        found = everything(folder / "study.zip", folder / "found")
    except LatentWireError:
        return
    assert found == everything(archive, folder / "expected")


@given(part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=100, deadline=None)
def test_a_truncated_file_is_refused(
    archive: Path, tmp_path_factory: pytest.TempPathFactory, part: float
) -> None:
    content = archive.read_bytes()
    short = tmp_path_factory.mktemp("short") / "study.zip"
    short.write_bytes(content[: int(part * len(content))])
    with pytest.raises(LatentWireError), open_study(short):
        pass


def rebuilt(archive: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other entries, its zip structure and manifest in order where they can be."""
    with zipfile.ZipFile(archive) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    change(entries)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return target


def in_runs(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    """A change of runs.jsonl that its manifest vouches for."""

    def change(entries: dict[str, bytes]) -> None:
        assert old in entries["runs.jsonl"]
        entries["runs.jsonl"] = content = entries["runs.jsonl"].replace(old, new, 1)
        about = json.loads(entries[MANIFEST])
        said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        about["files"]["runs.jsonl"] = said
        entries[MANIFEST] = json.dumps(about).encode()

    return change


def in_manifest(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries[MANIFEST] = json.dumps({**json.loads(entries[MANIFEST]), **changes}).encode()

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "no manifest": (lambda e: e.pop(MANIFEST), "has no manifest.json"),
    "an entry less": (lambda e: e.pop("artifacts/a1/two.bin"), "artifacts/a1/two.bin is not both"),
    "an entry more": (lambda e: e.update({"more": b""}), "more is not both"),
    "other content": (
        lambda e: e.update({"artifacts/a1/two.bin": bytes(256)}),
        "artifacts/a1/two.bin is not what its manifest.json says",
    ),
    "larger content": (
        lambda e: e.update({"artifacts/a1/two.bin": bytes(1 << 20)}),
        "artifacts/a1/two.bin is not what its manifest.json says",
    ),
    "no runs": (lambda e: e.pop("runs.jsonl"), "runs.jsonl is not both"),
    "another format": (in_manifest(format="other"), "says something else"),
    "a later version": (in_manifest(version=2), "version 2; this program reads version 1"),
    "odd files": (in_manifest(files={"a": 1}), "is not both"),
    "odd manifest": (in_manifest(files=[]), "not of its format"),
    "no JSON": (lambda e: e.update({MANIFEST: b"{"}), "is damaged"),
    "a path that leads out": (in_runs(b"folder/one.txt", b"../../../x.txt"), "leads out"),
    "an absolute path": (in_runs(b"folder/one.txt", b"/etc/passwd.tx"), "leads out"),
    "an artifact of no run": (in_runs(b',"two.bin"', b""), "two.bin belongs to no run"),
    "a run twice": (in_runs(b'"b2"', b'"a1"'), "a1 is there twice"),
    "no parent": (in_runs(b'"parent":"a1"', b'"parent":"zz"'), "before its parent"),
    "odd run id": (in_runs(b'"b2"', b'"../b"'), "no run id"),
    "odd status": (in_runs(b"KILLED", b"kille!"), "no status"),
    "odd type": (in_runs(b'"start_ms":7', b'"start_ms":true'), "wrong type"),
    "odd number": (in_runs(b'"nan"', b'"9.5"'), "no number"),
    "odd field": (in_runs(b'"start_ms":7', b'"begin_ms":7'), "its fields are not"),
    "odd line": (in_runs(b'{"run_id":"b2"', b'["run_id","b2"'), "line 2, is no run"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_an_altered_archive_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    change, words = CHANGES[name]
    changed = rebuilt(archive, tmp_path / "changed.zip", change)
    with pytest.raises(LatentWireError, match=words) as caught, open_study(changed):
        pass
    assert "\n" not in str(caught.value)


def test_two_entries_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    double = tmp_path / "double.zip"
    double.write_bytes(archive.read_bytes())
    with (
        zipfile.ZipFile(double, "a") as made,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        made.writestr("runs.jsonl", b"")
    with pytest.raises(LatentWireError, match="one name"), open_study(double):
        pass


def test_a_file_that_changes_after_it_was_checked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(random.Random(0).randbytes(200_000))
    path, run = tmp_path / "study.zip", replace(RUNS[0], artifacts=("two.bin",))
    with study_writer(path, "x") as writer:
        writer.add(run, {"two.bin": tmp_path / "content"})
    with open_study(path) as found:
        with path.open("r+b") as file:
            file.seek(100_000)
            file.write(bytes(20))
        with pytest.raises(LatentWireError, match=r"two.bin is not what"):
            found.unpack(run, tmp_path / "out")


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "C:x", "a\0b", "a\nb", ".."]
)
def test_paths_that_lead_out_are_not_safe(path: str) -> None:
    assert not is_safe(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", ".hidden", "ü/..b", "a b"])
def test_other_paths_are(path: str) -> None:
    assert is_safe(path)


def test_parents_come_first_however_deep(at: Opened, tmp_path: Path) -> None:
    here = at("here")
    writer = RunWriter(here, {})
    parent = None
    made = []
    for depth in range(4):
        parent = writer.start(str(depth), "milestone", parent, {}, {})
        made.append(parent)
    for run in reversed(made):
        writer.finish(run)
    export_study(here, tmp_path / "deep.zip")
    with open_study(tmp_path / "deep.zip") as found:
        assert [run.name for run in found.runs] == ["0", "1", "2", "3"]
        assert [len(level) for level in export_import._levels(found.runs)] == [1, 1, 1, 1]
    here.client.set_tag(made[0], "mlflow.parentRunId", made[3])
    with pytest.raises(LatentWireError, match="is below itself"):
        export_study(here, tmp_path / "loop.zip")


def test_a_deleted_parent_is_left_out(at: Opened, tmp_path: Path) -> None:
    here = at("here")
    writer = RunWriter(here, {})
    above = writer.start("above", "milestone", None, {}, {})
    writer.finish(writer.start("below", "condition", above, {}, {}))
    here.client.delete_run(above)
    export_study(here, tmp_path / "one.zip")
    with open_study(tmp_path / "one.zip") as found:
        assert [(run.name, run.parent) for run in found.runs] == [("below", None)]


# What an archive may not do, and what may have happened to a store.


def altered(study: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with each run changed, and hashes that fit."""
    path = folder / "altered.zip"
    with zipfile.ZipFile(study) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        manifest = json.loads(old.read(MANIFEST))
        runs = [json.loads(line) for line in old.read("runs.jsonl").splitlines()]
        for run in runs:
            change(run)
        text = "".join(json.dumps(run) + "\n" for run in runs).encode()
        manifest["files"]["runs.jsonl"] = {
            "bytes": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
        }
        for name in set(manifest["files"]) - {"runs.jsonl"}:
            new.writestr(name, old.read(name))
        new.writestr("runs.jsonl", text)
        new.writestr(MANIFEST, json.dumps(manifest))
    return path


def into(key: str, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda run: run[key].update({name: value})


def to(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda run: run.update({key: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (to("start_ms", 2**70), "before 1970 or after the year 9999"),
        (to("end_ms", -1), "before 1970 or after the year 9999"),
        (to("metrics", [["m", 1.0, 2**70, 0]]), "before 1970 or after the year 9999"),
        (to("metrics", [["m", 1.0, 0, 2**70]]), "a step takes more than 64 bits"),
        (to("metrics", [["../m", 1.0, 0, 0]]), "no store takes"),
        (into("tags", "k" * 5000, "v"), "no store takes.*250"),
        (into("tags", "k", "v" * 8001), "the tag k has 8001 characters"),
        (into("params", "k", "v" * 6001), "the parameter k has 6001 characters"),
        (into("tags", "k", "\ud800"), "is no text"),
        (into("params", "k", "a\0b"), "is no text"),
        (into("params", "k", 5), "of the wrong type"),
        (to("name", ["x"]), "of the wrong type"),
        (to("run_id", "../up"), "is no run id"),
    ],
)
def test_what_a_store_would_refuse_is_refused_before_it_is_asked(
    archive: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    path = altered(archive, tmp_path, change)
    with pytest.raises(LatentWireError, match=reason) as error, open_study(path):
        pass
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.fixture
def small(at: Opened, tmp_path: Path) -> Path:
    """One finished chunk in the store `here`, exported with the two runs above it."""
    here = at("here")
    writer = RunWriter(here, {SOURCE: "local"})
    plan = make_plan(CONDITIONS[0])
    parent = start_condition(writer, writer.start("m", "milestone", None, {}, {}), plan)
    write_chunk(writer, parent, plan, (0, 3))
    writer.close("FINISHED")
    export_study(here, tmp_path / "small.zip")
    return tmp_path / "small.zip"


def test_answers_that_are_not_in_the_file_are_left_out(
    at: Opened, small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = altered(small, tmp_path, into("tags", "latentwire.records_sha256", "0" * 64))
    there = at("there")
    done = imported(there, said)
    assert (done.written, done.left_out) == (2, 1)
    assert not list(there.search(tags={LEVEL: "chunk"}))
    assert "1 finished chunks of the file are left out" in caplog.text
    assert imported(there, small) == Transferred(1, 2)


def test_an_older_file_changes_nothing_that_a_newer_one_brought(at: Opened, tmp_path: Path) -> None:
    here = at("here")
    writer = RunWriter(here, {})
    milestone = writer.start("open", "milestone", None, {}, {})
    writer.finish(writer.start("done", "condition", milestone, {}, {}))
    export_study(here, tmp_path / "old.zip", everything=True)
    writer.finish(milestone)
    export_study(here, tmp_path / "new.zip", everything=True)
    there = at("there")
    for name, written in (("new", 2), ("old", 0), ("new", 0), ("old", 0)):
        assert imported(there, tmp_path / f"{name}.zip").written == written
        assert {run.info.status for run in there.search()} == {"FINISHED"}


def test_a_store_that_refuses_half_way_leaves_nothing_running(
    at: Opened, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = at("there")

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("no more")

    with monkeypatch.context() as patch, pytest.raises(LatentWireError, match="no more"):
        patch.setattr(there.client, "log_artifacts", refuse)
        imported(there, small)
    assert {run.info.status for run in there.search(tags={ORIGIN_RUN: chunk_in(small)})} == {
        "KILLED"
    }
    assert imported(there, small) == Transferred(1, 2)
    assert [run.info.status for run in there.search()] == ["FINISHED"] * 3


def chunk_in(path: Path) -> str:
    with open_study(path) as study:
        return study.runs[-1].run_id


def packed(path: Path, files: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def test_files_that_are_no_honest_study(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_IN_ALL", (1 << 20, 200))  # a small bomb is made faster
    zeros = bytes(9_000_000)
    about = {"format": "latentwire study", "version": 1, "experiment": "x", "files": {}}
    files = {MANIFEST: json.dumps(about).encode(), "runs.jsonl": b""}
    squeezed = zipfile.ZIP_DEFLATED
    encrypted = bytearray(archive.read_bytes())
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1  # the flag of its directory's first entry
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (
            packed(tmp_path / "a", files | {"artifacts/a/b": zeros}, compression=squeezed),
            "unpacked",
        ),
        (packed(tmp_path / "b", {MANIFEST: zeros}, compression=squeezed), "unpacked"),
        (packed(tmp_path / "c", files | {"x": b"1"}, compression=zipfile.ZIP_LZMA), "unknown way"),
        (tmp_path / "encrypted.zip", "is encrypted"),
    ):
        with pytest.raises(LatentWireError, match=reason), open_study(path):
            pass
    for path, reason in ((tmp_path / "fifo", "not a file"), (tmp_path, "not a file")):
        with pytest.raises(OSError, match=reason), open_study(path):
            pass


@pytest.mark.parametrize("name", ["a/" * 2000 + "b", "x" * 256, "\ud800", "/etc/x", "a/../../x"])
def test_names_that_no_file_system_takes_are_not_safe(name: str) -> None:
    assert not is_safe(name)
    assert is_safe("ü/" * 100 + "records.jsonl")


def test_an_export_without_all_answers_is_refused(at: Opened, small: Path, tmp_path: Path) -> None:
    here, file = at("here"), tmp_path / "again.zip"
    chunk = next(iter(here.search(tags={LEVEL: "chunk"})))
    records = Path(chunk.info.artifact_uri) / "records.jsonl"

    def cut() -> None:
        records.write_bytes(records.read_bytes()[:-1])

    for damage in (cut, records.unlink, lambda: shutil.rmtree(records.parents[1])):
        damage()
        with pytest.raises(LatentWireError, match=f"nothing was written.*{chunk.info.run_id}"):
            export_study(here, file)
        assert not file.exists()
    # Computed again, it is no longer missed.
    again = {**chunk.data.tags, INSTEAD_OF: chunk.info.run_id}
    lines = record_lines(make_records(make_plan(CONDITIONS[0]), (0, 3)))
    RunWriter(here, {}).write_lines(chunk.info.run_name, "", {}, again, lines, {})
    done = export_study(here, file)
    assert (done.written, done.left_out, done.chunks, done.answers) == (3, 1, 1, 3)
