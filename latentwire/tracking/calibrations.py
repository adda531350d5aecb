"""Calibrations in the tracking store: which there are, and how to get one."""

from dataclasses import dataclass
from pathlib import Path

from latentwire.channel.calibration import Calibration, from_bytes
from latentwire.errors import LatentWireError
from latentwire.parameters import AUTO
from latentwire.tracking.store import Store

CALIBRATION = "latentwire.calibration"  # sha256 of the artifact, on the run that made it
CALIBRATION_OF = "latentwire.calibration_of"  # what it was made from, as a sha256
PAIR_IDENTITY = "latentwire.pair_identity"
FILE = "calibration.safetensors"
DTYPE = "latentwire.dtype"  # of the caches measured; the parameter may say "auto"
NEWEST = AUTO


@dataclass(frozen=True)
class Subject:
    """Whose caches were measured: other weights or another dtype make another calibration."""

    pair: str
    pair_identity: str  # sha256
    dtype: str


def find_calibration(store: Store, wanted: str, subject: Subject, codec: str) -> Calibration:
    """The calibration that `wanted` names: a file's path, or `auto` for the newest in the store.

    Raises LatentWireError when there is none, when it cannot be read, or when it is of another
    pair or dtype. `codec` is who asks.
    """
    if wanted != NEWEST:
        found = _from_file(Path(wanted).expanduser())
    else:
        runs = [
            run
            for run in store.search(
                f"tags.`{PAIR_IDENTITY}` = '{subject.pair_identity}' and tags.`{CALIBRATION}` != ''"
                " and attributes.status = 'FINISHED'"
            )
            if run.data.tags.get(DTYPE, run.data.params.get("dtype")) == subject.dtype
        ]
        if not runs:
            raise LatentWireError(
                f"codec {codec} needs a calibration of pair {subject.pair} in {subject.dtype}: run"
                " `mlflow run . -e calibrate` first, or give calibration=FILE"
            )
        found = _from_run(store, runs[-1].info.run_id, runs[-1].data.tags[CALIBRATION])
    theirs = (found.about.get("pair_identity"), found.about.get("dtype"))
    if theirs != (subject.pair_identity, subject.dtype):
        raise LatentWireError(
            f"the calibration is of pair {found.about.get('pair')} in {found.about.get('dtype')}"
            f" with other files, not of {subject.pair} in {subject.dtype}: calibrate anew"
        )
    return found


def _from_file(path: Path) -> Calibration:
    try:
        return from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise LatentWireError(f"calibration {path} cannot be read: {error.strerror}") from None


def _from_run(store: Store, run_id: str, expected: str) -> Calibration:
    try:
        data = Path(store.client.download_artifacts(run_id, FILE)).read_bytes()
    except Exception as error:  # every artifact store has failures of its own
        raise LatentWireError(
            f"the calibration of run {run_id} cannot be read: {error}; restore the artifact, or"
            " delete the run and calibrate again"
        ) from error
    found = from_bytes(data, f"the artifact {FILE} of run {run_id}")
    if found.hash != expected:
        raise LatentWireError(
            f"the calibration of run {run_id} is not the one it logged: delete the run and"
            " calibrate again"
        )
    return found
