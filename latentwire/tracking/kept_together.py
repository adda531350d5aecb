"""The records of all chunk runs of a condition run in one file, kept at the condition run.

Behind a server each file is a request, 3 ms of the server's time: ten thousand are most of what M4
waits for. This file only spares them. What a chunk run says of its records decides: where the text
here is another, or none, the chunk run's own file is read.
"""

import hashlib
import io
import logging
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.runs import RECORDS_SHA256, RunWriter
from latentwire.tracking.store import Store

log = logging.getLogger("latentwire")

TOGETHER_FILE = "records.zip"
TOGETHER = "latentwire.records_together"  # tag of a condition run: how many files
_MOST_BYTES = 1 << 28  # of one chunk run's records; what says it is more is not unpacked

Together = Mapping[str, zipfile.ZipFile]  # by condition run


def keep_together(writer: RunWriter, condition_run: str, texts: Iterable[str]) -> None:
    """Store, at a condition run, the records files of its chunk runs, each named by its digest."""
    records = {hashlib.sha256(text.encode()).hexdigest(): text for text in texts}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TOGETHER_FILE
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for digest, text in records.items():
                archive.writestr(digest, text)
        writer.log_file(condition_run, path)
    writer.log(condition_run, tags={TOGETHER: str(len(records))})


def kept_together(
    store: Store, runs: Iterable[Run], pool: Executor, failed: Callable[[Run, Exception], None]
) -> Together:
    """What condition runs keep of chunk runs. `failed` is told of each whose file cannot be had,
    with the error; it may raise."""
    children = Counter(run.data.tags.get(MLFLOW_PARENT_RUN_ID, "") for run in runs)
    several = [parent for parent, count in children.items() if parent.isalnum() and count > 1]
    parents = [run for run in store.by_id(several) if TOGETHER in run.data.tags]

    def fetch(run: Run) -> zipfile.ZipFile | None:
        try:
            with local_artifact(store, run, TOGETHER_FILE) as path:
                return zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        except Exception as error:  # every artifact store has failures of its own
            log.debug("condition run %s keeps no records (%s)", run.info.run_id, error)
            failed(run, error)
            return None

    found = zip(parents, pool.map(fetch, parents), strict=True)
    return {run.info.run_id: archive for run, archive in found if archive}


def keeps(together: Together, run: Run) -> bool:
    """Whether the records of a chunk run are among them; they may still be damaged."""
    archive = together.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))
    return archive is not None and run.data.tags.get(RECORDS_SHA256) in archive.NameToInfo


def kept_records(together: Together, run: Run) -> bytes | None:
    """The text that is kept of a chunk run; None where there is none that can be read."""
    archive = together.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))
    if archive is None:
        return None
    try:
        entry = archive.getinfo(run.data.tags[RECORDS_SHA256])
        return archive.read(entry) if entry.file_size <= _MOST_BYTES else None
    except Exception as error:  # a damaged archive fails in many ways
        log.debug("chunk run %s is not kept with others (%s)", run.info.run_id, error)
        return None
