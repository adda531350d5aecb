"""The only reader of results: chunk runs, with their records."""

import hashlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.uri import is_local_uri

from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.provenance import Origin, described
from latentwire.channel.registry import MIXED
from latentwire.condition import order_of
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, read_records
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.runs import (
    CONDITION,
    HOST,
    IDENTITY,
    LEVEL,
    MILESTONE,
    RECORDS_FILE,
    RECORDS_SHA256,
    SOURCE,
)
from latentwire.tracking.store import Store, without_collector

log = logging.getLogger("latentwire")

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


def newest(chunks: Sequence[Run]) -> list[Run]:
    """Of each pair the chunks of one identity: other model files, dtype or evaluation version
    make other curves, which must not be mixed. The one with the newest chunk is taken."""
    latest: dict[str, tuple[int, str]] = {}
    for run in chunks:
        pair, identity = run.data.params["pair"], run.data.tags.get(IDENTITY, "")
        latest[pair] = max(latest.get(pair, (0, "")), (run.info.end_time, identity))
    for pair, count in identity_counts(chunks).items():
        if count > 1:
            log.warning(
                "pair %s has runs of %d identities (other files, dtype, seed or evaluation"
                " version); only the newest, %s, is used",
                pair,
                count,
                latest[pair][1][:12],
            )
    return [
        run
        for run in chunks
        if run.data.tags.get(IDENTITY, "") == latest[run.data.params["pair"]][1]
    ]


def newest_results(
    store: Store, source: str, pair: str | None, wanted: Callable[[Mapping[str, str]], bool]
) -> list[ConditionResult]:
    """Results of the newest identity of each pair, from the chunks whose parameters are `wanted`;
    the records of others are not fetched."""
    chunks = newest(chunks_from(store, source, pair))
    return results(store, [run for run in chunks if wanted(run.data.params)])


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

    def later(name: str) -> str | None:
        """Of a parameter that runs of earlier versions lack."""
        return value(name) if name in params else None

    bits, keep_ratio, tokens = value("kv_bits"), value("keep_ratio"), later("message_tokens")
    order = value("order")
    if keep_ratio and order:  # runs of published answers once had a whole cache in both orders
        order = order_of(float(keep_ratio), order)
    return ConditionResult(
        pair=params["pair"],
        dataset=params["dataset"],
        system=params["system"],
        codec=params["codec"],
        kv_bits=float(bits) if bits and bits != MIXED else None,
        keep_ratio=float(keep_ratio) if keep_ratio else None,
        order=order,
        control=params["control"],
        source=run.data.tags[SOURCE],
        examples_total=int(params["examples_total"]),
        records=tuple(_records(store, run)),
        seconds=run.data.metrics.get("seconds", 0.0),
        calibration=later("calibration"),
        message_tokens=int(tokens) if tokens else None,
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


def identity_counts(chunks: Iterable[Run]) -> dict[str, int]:
    """Pair -> how many identities its chunk runs have; `newest` draws one of them."""
    found: dict[str, set[str]] = {}
    for run in chunks:
        found.setdefault(run.data.params["pair"], set()).add(run.data.tags.get(IDENTITY, ""))
    return {pair: len(known) for pair, known in found.items()}


def origins(store: Store, chunks: Sequence[Run]) -> list[Origin]:
    """The milestone runs that computed some chunks, oldest first.

    What a run lacks (an artifact that was deleted, a field of a later version) stays empty: it
    is for people to read, and no number depends on it.
    """
    above = {
        run.info.run_id: run.data.tags.get(MLFLOW_PARENT_RUN_ID, "")
        for run in store.search(f"tags.`{LEVEL}` = 'condition'")
    }
    answers: Counter[tuple[str, str]] = Counter()
    pairs: dict[tuple[str, str], str] = {}
    for run in chunks:
        milestone = above.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""), "")
        key = (milestone, run.data.tags[SOURCE])
        answers[key] += int(run.data.metrics.get("examples", 0))
        pairs[key] = run.data.params["pair"]
    wanted = {milestone for milestone, _ in answers}
    runs = [
        run for run in store.search(f"tags.`{LEVEL}` = 'milestone'") if run.info.run_id in wanted
    ]
    with ThreadPoolExecutor(READERS) as pool:
        texts = list(pool.map(lambda run: _described(store, run), runs))
    return [
        Origin(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            name=run.info.run_name,
            milestone=run.data.tags.get(MILESTONE, ""),
            pair=pairs[key],
            source=key[1],
            started_ms=run.info.start_time,
            ended_ms=run.info.end_time,
            status=run.info.status,
            host=run.data.tags.get(HOST, ""),
            answers=answers[key],
            **text,
        )
        for run, text in zip(runs, texts, strict=True)
        for key in answers
        if key[0] == run.info.run_id
    ]


def _described(store: Store, run: Run) -> dict[str, Any]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "environment.json", "checkpoints.json"):
            try:
                path = store.client.download_artifacts(run.info.run_id, name, folder)
                content = json.loads(Path(path).read_text(encoding="utf-8"))
            except Exception as error:  # every artifact store has failures of its own
                log.debug("run %s: no %s (%s)", run.info.run_id, name, error)
                content = {}
            found.append(content if isinstance(content, dict) else {})
    return described(*found)
