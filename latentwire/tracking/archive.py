"""A study as one file: a zip archive of runs and their artifacts, checked before it is used.

    artifacts/RUN/PATH    every artifact file, below the id its run had
    runs.jsonl            one run a line, parents before their children
    manifest.json         format, version, experiment; size and SHA-256 of every other entry

Zip, because its directory lets a reader check every entry first and then read them in any order,
because it is written in one pass whatever the size, and because every machine can look inside.
Entries are read by the names that the manifest gives, never unpacked by what they call themselves.
"""

import hashlib
import json
import math
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mlflow.entities import Dataset, InputTag
from mlflow.entities import DatasetInput as MlflowInput
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
    _validate_dataset_inputs,
    _validate_experiment_name,
    _validate_metric,
    _validate_param,
    _validate_tag,
)

from c2c.files import open_file
from latentwire.errors import LatentWireError, first_line

FORMAT = "latentwire study"
VERSION = 1
MANIFEST = "manifest.json"
RUNS = "runs.jsonl"
ARTIFACTS = "artifacts"
STATUSES = ("FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED")
PIECE_BYTES = 1 << 20
# What an archive may come to, in bytes: so much, and so many times the file's own size. Hashes in
# the manifest hardly shrink; runs and answers shrink to a tenth, zeros to a thousandth.
MOST_MANIFEST = (1 << 20, 20)
MOST_RUNS = (1 << 24, 100)
MOST_IN_ALL = (1 << 28, 200)
MOST_PATH_BYTES, MOST_NAME_BYTES = 1000, 255  # of an artifact's path, and of one part of it
LAST_MS = 253_402_300_799_999  # the year 9999
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same study makes the same file


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric's history; NaN and infinities are kept."""

    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True)
class DatasetInput:
    """A dataset that a run says it read, as MLflow describes it."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ArchivedRun:
    """All that is kept of a run. `run_id` and `parent` are ids of the store it comes from."""

    run_id: str
    parent: str | None
    name: str
    status: str  # one of STATUSES
    start_ms: int
    end_ms: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[MetricPoint, ...] = ()
    inputs: tuple[DatasetInput, ...] = ()
    artifacts: tuple[str, ...] = ()  # paths below the run's artifact folder

    def entry(self, artifact: str) -> str:
        """The archive's entry that holds an artifact file."""
        return f"{ARTIFACTS}/{self.run_id}/{artifact}"


@dataclass
class StudyWriter:
    """Writes an archive run by run; `study_writer` makes it."""

    _zip: zipfile.ZipFile
    _lines: IO[bytes]
    _files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, run: ArchivedRun, files: Mapping[str, Path]) -> None:
        """Add a run; `files` says where the content of each of its artifacts is."""
        for artifact in run.artifacts:
            if not is_safe(artifact):
                raise LatentWireError(f"run {run.run_id} has an artifact of odd name: {artifact!r}")
            with files[artifact].open("rb") as content:
                self._write(run.entry(artifact), content)
        self._lines.write(_to_line(run))

    def _write(self, name: str, content: IO[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        with self._zip.open(_entry(name), "w", force_zip64=True) as target:
            while piece := content.read(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
                target.write(piece)
        self._files[name] = {"bytes": size, "sha256": digest.hexdigest()}


@contextmanager
def study_writer(path: Path, experiment: str) -> Iterator[StudyWriter]:
    """Write an archive to `path`; it is whole when the block ends without an exception."""
    with zipfile.ZipFile(path, "w") as archive, tempfile.TemporaryFile() as lines:
        writer = StudyWriter(archive, lines)
        yield writer
        lines.seek(0)
        writer._write(RUNS, lines)
        about = {"format": FORMAT, "version": VERSION, "experiment": experiment}
        text = json.dumps({**about, "files": writer._files}, indent=0)
        archive.writestr(_entry(MANIFEST), text)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


@dataclass(frozen=True)
class StudyArchive:
    """An archive that has been checked from end to end."""

    experiment: str
    runs: tuple[ArchivedRun, ...]  # parents before their children
    _zip: zipfile.ZipFile
    _files: Mapping[str, Mapping[str, Any]]

    def sha256(self, run: ArchivedRun, artifact: str) -> str:
        """The hash of an artifact's content."""
        return str(self._files[run.entry(artifact)]["sha256"])

    def unpack(
        self, run: ArchivedRun, folder: Path, artifacts: Sequence[str] | None = None
    ) -> None:
        """Write a run's artifacts, all or some, below `folder`. Raises LatentWireError should the
        file have changed since it was checked."""
        for artifact in run.artifacts if artifacts is None else artifacts:
            target = folder / artifact
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                _read_entry(self._zip, run.entry(artifact), self._files, file)


@contextmanager
def open_study(path: Path) -> Iterator[StudyArchive]:
    """Open and check an archive: every entry, size, hash and run.

    Raises LatentWireError, in one sentence, for anything that `study_writer` would not have
    written, and OSError when the file cannot be read.
    """
    with open_file(path) as file:
        try:
            archive = zipfile.ZipFile(file)
            study = _checked(archive)
        except (LatentWireError, MemoryError):
            raise
        except Exception as error:  # zipfile and zlib have many ways to say that a file is damaged
            reason = str(error) or type(error).__name__
            raise LatentWireError(f"is damaged or no exported study: {reason}") from None
        with archive:
            yield study


def is_safe(path: str) -> bool:
    """Whether an artifact's path stays in its folder, on every system."""
    parts = path.split("/")
    return (
        bool(path)
        and not any(part in ("", ".", "..") for part in parts)
        and not any(character in "\\:" or ord(character) < 32 for character in path)
        and str(PurePosixPath(path)) == path
        and _is_text(path)
        and len(path.encode()) <= MOST_PATH_BYTES
        and all(len(part.encode()) <= MOST_NAME_BYTES for part in parts)
    )


def _is_text(value: str) -> bool:
    """Whether every store can keep a text: no half of a surrogate pair, no NUL."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _checked(archive: zipfile.ZipFile) -> StudyArchive:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise LatentWireError("is damaged or was altered: two of its entries have one name")
    if MANIFEST not in names:
        raise LatentWireError(f"is no exported study: it has no {MANIFEST}")
    _check_entries(archive)
    about = json.loads(archive.read(MANIFEST))
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise LatentWireError(f"is no exported study: its {MANIFEST} says something else")
    if about.get("version") != VERSION:
        raise LatentWireError(
            f"is a study of version {about.get('version')}; this program reads version {VERSION}"
        )
    experiment, files = about["experiment"], about["files"]
    if not isinstance(experiment, str) or not isinstance(files, dict):
        raise LatentWireError(f"is damaged or was altered: {MANIFEST} is not of its format")
    try:
        _validate_experiment_name(_typed(experiment, str))
    except (ValueError, MlflowException) as error:
        raise LatentWireError(f"was altered: its experiment: {first_line(error)}") from None
    if odd := set(files) ^ (set(names) - {MANIFEST}):
        raise LatentWireError(
            f"is damaged or was altered: {min(odd)} is not both in the file and in its {MANIFEST}"
        )
    for name in files:
        if name != RUNS:
            _read_entry(archive, name, files)
    with tempfile.TemporaryFile() as lines:
        _read_entry(archive, RUNS, files, lines)
        lines.seek(0)
        runs = tuple(_from_line(line, number) for number, line in enumerate(lines, start=1))
    _check_runs(runs, set(files) - {RUNS})
    return StudyArchive(experiment, runs, archive, files)


def _check_entries(archive: zipfile.ZipFile) -> None:
    """Raise for entries that `study_writer` makes in no way, and for more than a file of this size
    can honestly hold; by the archive's directory, so that nothing is unpacked for it."""
    entries = archive.infolist()
    for entry in entries:
        if entry.flag_bits & 1:
            raise LatentWireError("is encrypted: export it again, or unpack and pack it without")
        if entry.compress_type not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            raise LatentWireError(f"was altered: {entry.filename!r} is packed in an unknown way")
    archive.fp.seek(0, 2)  # type: ignore[union-attr]
    size = archive.fp.tell()  # type: ignore[union-attr]
    said = {entry.filename: entry.file_size for entry in entries}
    for what, number, (least, times) in (
        (f"a {MANIFEST}", said[MANIFEST], MOST_MANIFEST),
        (f"a {RUNS}", said.get(RUNS, 0), MOST_RUNS),
        ("entries", sum(said.values()), MOST_IN_ALL),
    ):
        if number > least + times * size:
            raise LatentWireError(
                f"was altered: a file of {size} bytes that says it holds {what} of {number} bytes"
                " is not unpacked"
            )


def _read_entry(
    archive: zipfile.ZipFile,
    name: str,
    files: Mapping[str, Mapping[str, Any]],
    target: IO[bytes] | None = None,
) -> None:
    """Read an entry piece by piece, at most one more than the manifest says, and check it."""
    if name not in files:
        raise LatentWireError(f"is no exported study: it has no {name}")
    said, digest, size = files[name], hashlib.sha256(), 0
    try:
        with archive.open(name) as source:
            while size <= said["bytes"] and (piece := source.read(PIECE_BYTES)):
                size += len(piece)
                digest.update(piece)
                if target:
                    target.write(piece)
        same = (size, digest.hexdigest()) == (said["bytes"], said["sha256"])
    except OSError:
        raise
    except Exception:  # as zipfile and zlib report damage
        same = False
    if not same:
        raise LatentWireError(
            f"is damaged or was altered: {name} is not what its {MANIFEST} says; export it again"
        )


def _check_runs(runs: tuple[ArchivedRun, ...], entries: set[str]) -> None:
    """Raise unless the runs form a forest, parents first, that owns exactly these entries."""
    seen: set[str] = set()
    owned: set[str] = set()
    for run in runs:
        if run.run_id in seen:
            raise LatentWireError(f"was altered: run {run.run_id} is there twice")
        if run.parent is not None and run.parent not in seen:
            raise LatentWireError(f"was altered: run {run.run_id} comes before its parent")
        seen.add(run.run_id)
        _check_values(run)
        folders = {
            "/".join(parts[:n])
            for parts in (a.split("/") for a in run.artifacts)
            for n in range(1, len(parts))
        }
        if both := folders & set(run.artifacts):
            raise LatentWireError(f"was altered: {min(both)!r} is a file and a folder")
        for artifact in run.artifacts:
            if not is_safe(artifact):
                raise LatentWireError(f"was altered: {artifact!r} leads out of its run's folder")
            owned.add(run.entry(artifact))
    if odd := owned ^ entries:
        raise LatentWireError(f"was altered: {min(odd)} belongs to no run, or is missing")


def _check_values(run: ArchivedRun) -> None:
    """Raise for what a store would refuse, when the run is half written."""
    times = [run.start_ms, run.end_ms or 0, *(point.timestamp_ms for point in run.metrics)]
    try:
        if not all(0 <= time <= LAST_MS for time in times):
            raise ValueError("a time is before 1970 or after the year 9999")
        if not all(abs(point.step) < 1 << 63 for point in run.metrics):
            raise ValueError("a step takes more than 64 bits")
        for key in {point.key for point in run.metrics}:
            _validate_metric(key, 0.0, 0, 0)
        for key, value in run.params.items():
            _validate_param(key, "")
            _at_most(MAX_PARAM_VAL_LENGTH, value, f"the parameter {key}")
        for key, value in run.tags.items():
            _validate_tag(key, "")
            _at_most(MAX_TAG_VAL_LENGTH, value, f"the tag {key}")
        _at_most(MAX_TAG_VAL_LENGTH, run.name, "its name")
        _validate_dataset_inputs([mlflow_input(entry) for entry in run.inputs])
    except (ValueError, MlflowException) as error:
        reason = first_line(error)
        raise LatentWireError(f"holds what no store takes: run {run.run_id}: {reason}") from None


def _at_most(length: int, value: str, what: str) -> None:
    if len(value) > length:
        raise ValueError(f"{what} has {len(value)} characters, more than {length}")


def mlflow_input(entry: DatasetInput) -> MlflowInput:
    """A dataset as MLflow takes it."""
    data = Dataset(
        entry.name, entry.digest, entry.source_type, entry.source, entry.schema, entry.profile
    )
    return MlflowInput(data, [InputTag(key, value) for key, value in entry.tags.items()])


def _to_line(run: ArchivedRun) -> bytes:
    content = asdict(run)
    content["metrics"] = [
        [p.key, p.value if math.isfinite(p.value) else str(p.value), p.timestamp_ms, p.step]
        for p in run.metrics
    ]
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _from_line(line: bytes, number: int) -> ArchivedRun:
    try:
        content = json.loads(line.decode())
        _exactly(content, ArchivedRun)
        run_id = _typed(content["run_id"], str)
        if not (run_id.isalnum() and run_id.isascii() and len(run_id) <= 64):
            raise ValueError(f"{run_id!r} is no run id")
        if content["status"] not in STATUSES:
            raise ValueError(f"{content['status']!r} is no status")
        return ArchivedRun(
            run_id=run_id,
            parent=_typed(content["parent"], str, None),
            name=_typed(content["name"], str),
            status=content["status"],
            start_ms=_typed(content["start_ms"], int),
            end_ms=_typed(content["end_ms"], int, None),
            tags=_texts(content["tags"]),
            params=_texts(content["params"]),
            metrics=tuple(_point(*point) for point in _typed(content["metrics"], list)),
            inputs=tuple(_input(entry) for entry in _typed(content["inputs"], list)),
            artifacts=tuple(_typed(path, str) for path in _typed(content["artifacts"], list)),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LatentWireError(f"was altered: {RUNS}, line {number}, is no run: {error}") from None


def _point(key: Any, value: Any, timestamp_ms: Any, step: Any) -> MetricPoint:
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        raise ValueError(f"{value!r} is no number")
    number = float(_typed(value, float, int, str))
    return MetricPoint(_typed(key, str), number, _typed(timestamp_ms, int), _typed(step, int))


def _input(entry: Any) -> DatasetInput:
    _exactly(entry, DatasetInput)
    texts = {name: _typed(entry[name], str) for name in ("name", "digest", "source_type", "source")}
    optional = {name: _typed(entry[name], str, None) for name in ("schema", "profile")}
    return DatasetInput(**texts, **optional, tags=_texts(entry["tags"]))


def _exactly(content: Any, kind: type[Any]) -> None:
    names = {field.name for field in fields(kind)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"its fields are not {', '.join(sorted(names))}")


def _texts(content: Any) -> dict[str, str]:
    return {_typed(k, str): _typed(v, str) for k, v in _typed(content, dict).items()}


def _typed(value: Any, *kinds: type[Any] | None) -> Any:
    """`value`, should it be of one of the kinds (None: absent); TypeError otherwise."""
    if type(value) not in [type(None) if kind is None else kind for kind in kinds]:
        raise TypeError(f"{str(value)[:40]!r} is of the wrong type")
    if isinstance(value, str) and not _is_text(value):
        raise ValueError(f"{value[:40]!r} is no text")
    return value
