"""The only reader of results: chunk runs, with their records."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from mlflow.entities import Run
from mlflow.utils.uri import is_local_uri

from latentwire.analysis.curve import ConditionResult
from latentwire.channel.registry import MIXED
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, read_records
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.runs import CONDITION, LEVEL, RECORDS_FILE, RECORDS_SHA256, SOURCE
from latentwire.tracking.store import Store, without_collector

READERS = 32  # artifacts behind a server are waited for: 40 ms each on a connection kept alive


def chunks_of(store: Store, condition_fingerprints: Iterable[str]) -> list[Run]:
    """The finished chunk runs of some conditions."""
    found: list[Run] = []
    for fingerprint in condition_fingerprints:
        found += _finished(store, f"tags.`{CONDITION}` = '{fingerprint}'")
    return found


def chunks_from(store: Store, source: str, pair: str | None) -> list[Run]:
    """The finished chunk runs of a source, of one pair or of all."""
    pair_filter = f" and params.pair = '{pair}'" if pair else ""
    return list(_finished(store, f"tags.`{SOURCE}` = '{source}'{pair_filter}"))


def results(store: Store, chunks: Iterable[Run]) -> list[ConditionResult]:
    """The result that each chunk run holds.

    Raises LatentWireError, naming the run, when its records are missing, altered or malformed.
    """
    runs = list(chunks)
    # Threads only share one interpreter where there is nothing to wait for.
    local = all(is_local_uri(run.info.artifact_uri) for run in runs)
    with without_collector(), ThreadPoolExecutor(1 if local else READERS) as pool:
        return list(pool.map(lambda run: _result(store, run), runs))


def _finished(store: Store, filter_string: str) -> Iterator[Run]:
    return store.search(
        f"{filter_string} and tags.`{LEVEL}` = 'chunk' and attributes.status = 'FINISHED'"
    )


def _result(store: Store, run: Run) -> ConditionResult:
    params = run.data.params

    def value(name: str) -> str | None:
        if name not in params:
            raise LatentWireError(f"chunk run {run.info.run_id} has no parameter {name}")
        return None if params[name] == "none" else str(params[name])

    bits, keep_ratio = value("kv_bits"), value("keep_ratio")
    return ConditionResult(
        pair=params["pair"],
        dataset=params["dataset"],
        system=params["system"],
        codec=params["codec"],
        kv_bits=float(bits) if bits and bits != MIXED else None,
        keep_ratio=float(keep_ratio) if keep_ratio else None,
        order=value("order"),
        control=params["control"],
        source=run.data.tags[SOURCE],
        examples_total=int(params["examples_total"]),
        records=tuple(_records(store, run)),
        seconds=run.data.metrics.get("seconds", 0.0),
        calibration=value("calibration") if "calibration" in params else None,
    )


def _records(store: Store, run: Run) -> list[Record]:
    run_id = run.info.run_id
    with ExitStack() as stack:
        try:
            path = stack.enter_context(local_artifact(store, run, RECORDS_FILE))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except Exception as error:  # every artifact store has failures of its own
            raise LatentWireError(
                f"the records of chunk run {run_id} cannot be read: {error}; restore the artifact"
                " folder, or delete the run to compute it again"
            ) from error
        if digest != run.data.tags.get(RECORDS_SHA256):
            raise LatentWireError(
                f"the records of chunk run {run_id} are not those it logged"
                f" ({run.info.artifact_uri}/{RECORDS_FILE}): delete the run to compute it again"
            )
        return read_records(path)
