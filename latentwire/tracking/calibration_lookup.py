"""Calibrations in the tracking store: which there are, and how to get one."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Run

from c2c.files import read_file
from latentwire.errors import LatentWireError, first_line
from latentwire.parameters import AUTO
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.store import Store
from latentwire.user_files import user_path

if TYPE_CHECKING:  # it brings torch, which most codecs' plans do without
    from latentwire.channel.calibration import Calibration

CALIBRATION = "latentwire.calibration"  # sha256 of the artifact, on the run that made it
CALIBRATION_OF = "latentwire.calibration_of"  # what it was made from, as a sha256
PAIR_IDENTITY = "latentwire.pair_identity"
FILE = "calibration.safetensors"
DTYPE = "latentwire.dtype"  # of the caches measured; the parameter may say "auto"
NEWEST = AUTO

log = logging.getLogger("latentwire")


@dataclass(frozen=True)
class CalibrationKey:
    """Whose caches were measured: other weights or another dtype make another calibration."""

    pair: str
    pair_identity: str  # sha256
    dtype: str


def find_calibration(
    store: Store, wanted: str, subject: CalibrationKey, asker: str
) -> "Calibration":
    """The calibration that `wanted` names: a file's path, or `auto` for the newest in the store.

    Raises LatentWireError when there is none, when it cannot be read, or when it is of another
    pair or dtype. `asker` is who asks: `codec klt2`, `control mean`.
    """
    found = _from_file(user_path(wanted)) if wanted != NEWEST else _newest(store, subject, asker)
    theirs = (found.about.get("pair_identity"), found.about.get("dtype"))
    if theirs != (subject.pair_identity, subject.dtype):
        raise LatentWireError(
            f"the calibration is of pair {found.about.get('pair')} in {found.about.get('dtype')}"
            f" with other files, not of {subject.pair} in {subject.dtype}: calibrate anew"
        )
    found.check_serves(asker)
    return found


def _from_file(path: Path) -> "Calibration":
    from latentwire.channel.calibration import from_bytes

    try:
        return from_bytes(read_file(path), str(path))
    except OSError as error:
        raise LatentWireError(f"calibration {path} cannot be read: {error.strerror}") from None


def _newest(store: Store, subject: CalibrationKey, asker: str) -> "Calibration":
    """The newest in the store that can be read; a warning names each newer one that cannot."""
    runs = [
        run
        for run in store.search(
            f"tags.`{CALIBRATION}` != '' and attributes.status = 'FINISHED'",
            tags={PAIR_IDENTITY: subject.pair_identity},
        )
        if run.data.tags.get(DTYPE, run.data.params.get("dtype")) == subject.dtype
    ]
    for run in reversed(runs):
        try:
            return read_calibration(store, run)
        except LatentWireError as error:
            log.warning("%s: it does not count", error)
    raise LatentWireError(
        f"{asker} needs a calibration of pair {subject.pair} in {subject.dtype}: run"
        " `mlflow run . -e calibrate` first, or give calibration=FILE"
    )


def read_calibration(store: Store, run: Run) -> "Calibration":
    """The calibration that a finished run holds; LatentWireError where it cannot be had."""
    from latentwire.channel.calibration import from_bytes

    run_id = run.info.run_id
    try:
        with local_artifact(store, run, FILE) as path:
            data = path.read_bytes()
    except Exception as error:  # every artifact store has failures of its own
        raise LatentWireError(
            f"the calibration of run {run_id} cannot be read ({first_line(error)})"
        ) from error
    found = from_bytes(data, f"the artifact {FILE} of run {run_id}")
    if found.hash != run.data.tags[CALIBRATION]:
        raise LatentWireError(f"the calibration of run {run_id} is not the one it logged")
    return found
