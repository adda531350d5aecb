"""The only reader of results: chunk runs, with their records."""

import hashlib
import json
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.uri import is_local_uri

from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.provenance import Origin, described
from latentwire.controls.registry import is_lent
from latentwire.errors import LatentWireError, first_line
from latentwire.evaluation.record import Record, parse_records
from latentwire.garbage import gc_paused
from latentwire.redaction import redact_uri
from latentwire.spec.axes import AXES, NONE, has_budget, read_params
from latentwire.spec.condition import order_of
from latentwire.spec.setting import USUAL_SEED
from latentwire.suggestion import to_run
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.finished_chunks import parse_chunk
from latentwire.tracking.kept_together import Together, keeps, kept_records, kept_together
from latentwire.tracking.retries import is_unavailable
from latentwire.tracking.runs import (
    CHUNK,
    CONDITION,
    DATASET_HASH,
    HOST,
    IDENTITY,
    INSTEAD_OF,
    LEVEL,
    MILESTONE,
    RECORDS_FILE,
    RECORDS_SHA256,
    SOURCE,
)
from latentwire.tracking.store import Store, is_server

log = logging.getLogger("latentwire")

_NEEDED = {"pair", "dataset", "examples_total"} | {n for n in AXES if not AXES[n].later}
_MOST_AWAY = 3  # each is asked for again for 20 s
_TOLD = 3  # runs of which a warning says what is amiss
READERS = 32  # artifacts behind a server are waited for: 40 ms each on a connection kept alive


@dataclass(frozen=True)
class Unreadable:
    """A finished chunk run whose answers cannot be had: it counts for nothing."""

    run: Run
    reason: str


@dataclass(frozen=True)
class Answers:
    """What some chunk runs hold: each answer once, from the oldest run that has it."""

    found: Sequence[tuple[Run, ConditionResult]]
    unreadable: Sequence[Unreadable]

    @property
    def results(self) -> list[ConditionResult]:
        return [result for _, result in self.found]


def chunks_of(store: Store, condition_fingerprints: Iterable[str]) -> list[Run]:
    """The finished chunk runs of some conditions."""
    experiments = store.experiments()
    found: list[Run] = []
    for fingerprint in condition_fingerprints:
        found += _finished(store, {CONDITION: fingerprint}, {}, experiments)
    return found


def chunks_from(store: Store, source: str, pair: str | None) -> list[Run]:
    """The finished chunk runs of a source, of one pair or of all."""
    return list(_finished(store, {SOURCE: source}, {"pair": pair} if pair else {}))


def newest(chunks: Sequence[Run]) -> list[Run]:
    """Of each pair the chunks of one identity: other model files, dtype or evaluation version
    make other curves, which must not be mixed. The one with the newest chunk is taken. Of it, of
    each dataset that is a user's file the chunks of its newest content, so that one name is one set
    for all pairs; and of each dataset those of one seed where a seed chose another question's
    cache: of the seed with most answers, so that all conditions are compared by one; among equals
    the newest."""
    kept = _one_kind(
        chunks,
        ("pair",),
        _identity,
        "identities (other files, dtype or evaluation version); only the newest",
        lambda runs: max(map(_ended, runs)),
        lambda run: True,
    )
    kept = _one_kind(
        kept,
        ("dataset",),
        lambda run: run.data.params[DATASET_HASH],
        "contents of the question set's file; only the newest",
        lambda runs: max(map(_ended, runs)),
        lambda run: DATASET_HASH in run.data.params,
    )
    kept = _one_kind(
        kept,
        ("pair", "dataset", "control"),
        lambda run: run.data.params["control_calibration"],
        "calibrations of which a control is made; only that of most answers",
        lambda runs: (sum(map(_examples, runs)), max(map(_ended, runs))),
        lambda run: run.data.params.get("control_calibration", NONE) != NONE,
    )
    return _one_kind(
        kept,
        ("pair", "dataset"),
        lambda run: run.data.params.get("seed", str(USUAL_SEED)),
        "seeds of the control deranged; only that of most answers",
        lambda runs: (sum(map(_examples, runs)), max(map(_ended, runs))),
        lambda run: is_lent(run.data.params["control"]),
    )


def _one_kind(
    chunks: Sequence[Run],
    of: Sequence[str],
    kind: Callable[[Run], str],
    told: str,
    worth: Callable[[Sequence[Run]], Any],
    concerned: Callable[[Run], bool],
) -> list[Run]:
    """Of the `concerned` chunks that have the same parameters `of`, those of the kind that is worth
    most; and all others."""

    def group(run: Run) -> str:
        return ", ".join(run.data.params[name] for name in of)

    groups: dict[str, dict[str, list[Run]]] = {}
    for run in filter(concerned, chunks):
        groups.setdefault(group(run), {}).setdefault(kind(run), []).append(run)
    taken = {}
    for name, kinds in groups.items():
        taken[name] = max(kinds, key=lambda one: (worth(kinds[one]), one))
        if len(kinds) > 1:
            used = taken[name][:12]
            log.warning("%s %s has runs of %d %s, %s, is used", of[0], name, len(kinds), told, used)
    return [run for run in chunks if not concerned(run) or kind(run) == taken[group(run)]]


def _ended(run: Run) -> int:
    return run.info.end_time or 0


def _examples(run: Run) -> int:
    """How many answers a chunk has: as its metric says, which may have been altered."""
    told = run.data.metrics.get("examples", 0)
    return int(told) if math.isfinite(told) else 0


def _identity(run: Run) -> str:
    return str(run.data.tags.get(IDENTITY, ""))


def newest_results(
    store: Store, source: str, pair: str | None, wanted: Callable[[Mapping[str, str]], bool]
) -> list[ConditionResult]:
    """Results of the newest identity of each pair, from the chunks whose parameters are `wanted`;
    the records of others are not fetched."""
    chunks = newest(chunks_from(store, source, pair))
    found = read_answers(store, [run for run in chunks if wanted(run.data.params)])
    require_some(found)
    return found.results


def results(store: Store, chunks: Iterable[Run]) -> list[ConditionResult]:
    """The results that chunk runs hold; see `read_answers`."""
    return read_answers(store, chunks).results


def read_answers(store: Store, chunks: Iterable[Run], told: Collection[str] = ()) -> Answers:
    """What chunk runs hold. Each whose records are missing, altered or malformed is left out, with
    a warning unless its id has been `told` or it was computed again.

    Raises LatentWireError where the store does not answer, or nothing at all can be read.
    """
    runs = sorted(chunks, key=lambda run: (run.info.start_time, run.info.run_id))
    read = _read_each(store, runs)
    unreadable = [entry for entry in read if isinstance(entry, Unreadable)]
    found = [
        (run, entry)
        for run, entry in zip(runs, read, strict=True)
        if isinstance(entry, ConditionResult)
    ]
    replaced = {i for run, _ in found for i in run.data.tags.get(INSTEAD_OF, "").split(",")}
    _warn([entry for entry in unreadable if entry.run.info.run_id not in {*told, *replaced}])
    return Answers(_once(found), unreadable)


def _read_each(store: Store, runs: Sequence[Run]) -> list[ConditionResult | Unreadable]:
    """Threads fetch what has to be waited for; for all else they would only share one
    interpreter."""
    away = _Unreached(store)
    with gc_paused(), ThreadPoolExecutor(READERS) as pool:
        far = [run for run in runs if not is_local_uri(run.info.artifact_uri)]
        together = kept_together(store, far, pool, away.add)

        def answers(run: Run) -> ConditionResult | Unreadable:
            return _result_or_not(store, run, together, away)

        single = [run for run in far if not keeps(together, run)]
        names = [run.info.run_id for run in single]
        fetched = dict(zip(names, pool.map(answers, single), strict=True))
        return [fetched.get(run.info.run_id) or answers(run) for run in runs]


def require_chunks(store: Store, chunks: Sequence[Run], asked: Sequence[str | None]) -> None:
    """Raise LatentWireError where there are no chunk runs of what was asked for, in words, the
    source first."""
    if not chunks:
        raise LatentWireError(
            f"the tracking store {redact_uri(store.uri)} has no finished chunk runs"
            f" ({' and '.join(filter(None, asked))}): {to_run(asked[0] or '')}"
        )


def require_some(answers: Answers) -> None:
    """Raise LatentWireError where there were chunk runs, and none could be read."""
    if answers.unreadable and not answers.found:
        first = answers.unreadable[0]
        raise LatentWireError(
            f"none of {len(answers.unreadable)} finished chunk runs can be read (run"
            f" {first.run.info.run_id}: {first.reason}): restore the artifact folder, or start the"
            " milestones again, which compute them again"
        )


def _warn(unreadable: Sequence[Unreadable]) -> None:
    for entry in unreadable[:_TOLD]:
        log.warning(
            "the answers of chunk run %s are left out: %s", entry.run.info.run_id, entry.reason
        )
    if len(unreadable) > _TOLD:
        log.warning("and so are those of %d more chunk runs", len(unreadable) - _TOLD)


def _once(found: Iterable[tuple[Run, ConditionResult]]) -> list[tuple[Run, ConditionResult]]:
    """Each example of a condition once. A run that was deleted, computed again and restored makes
    two of one; the older one counts."""
    kept: dict[str, dict[str, Record]] = {}
    differing: Counter[str] = Counter()
    once = []
    for run, result in found:
        known = kept.setdefault(run.data.tags.get(CONDITION, run.info.run_id), {})
        new = tuple(record for record in result.records if record.example_id not in known)
        again = (record for record in result.records if record.example_id in known)
        differing[run.info.run_id] += sum(
            record.predicted != known[record.example_id].predicted for record in again
        )
        known.update((record.example_id, record) for record in new)
        if len(new) == len(result.records):
            once.append((run, result))
        elif new:
            seconds = result.seconds * len(new) / len(result.records)
            once.append((run, replace(result, records=new, seconds=seconds)))
    for run_id, count in differing.items():
        if count:
            log.warning(
                "chunk run %s has %d other answers than older runs to the same questions: the older"
                " ones count",
                run_id,
                count,
            )
    return once


def _finished(
    store: Store,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    experiments: Sequence[str] | None = None,
) -> Iterator[Run]:
    chunks = {**tags, LEVEL: "chunk"}
    for run in store.search(
        "attributes.status = 'FINISHED'", experiments, tags=chunks, params=params
    ):
        lacking = sorted(_NEEDED - run.data.params.keys())
        if lacking:
            log.warning(
                "chunk run %s is left out: it has no parameter %s", run.info.run_id, lacking[0]
            )
        else:
            yield run


class _Away(LatentWireError):
    """The tracking server does not answer: that is nothing about a run."""


class _Unreached:
    """Counts the runs whose artifacts the server could not give."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count = 0

    def add(self, run: Run, error: BaseException) -> None:
        """Count a run if its error says so; raise _Away where the server does not answer."""
        if is_server(self._store.uri) and is_unavailable(error.__cause__ or error):
            self._count += 1
            if self._count > _MOST_AWAY or not self._store.is_reachable():
                raise _Away(f"chunk run {run.info.run_id}: {error}: start again later") from error


def _result_or_not(
    store: Store, run: Run, together: Together, away: _Unreached
) -> ConditionResult | Unreadable:
    try:
        return _result(store, run, together)
    except LatentWireError as error:
        away.add(run, error)
        return Unreadable(run, str(error))
    except (KeyError, ValueError) as error:
        return Unreadable(run, f"its parameters or tags are malformed ({error!r})")


def _result(store: Store, run: Run, together: Together) -> ConditionResult:
    params = run.data.params
    values = read_params(params)
    if values["keep_ratio"] and values["order"] and not has_budget(values):
        # Runs of published answers once had a whole cache in both orders.
        values["order"] = order_of(values["keep_ratio"], values["order"])
    return ConditionResult(
        **values,
        pair=params["pair"],
        dataset=params["dataset"],
        source=run.data.tags[SOURCE],
        examples_total=int(params["examples_total"]),
        records=tuple(_records(store, run, together)),
        seconds=run.data.metrics.get("seconds", 0.0),
    )


def _records(store: Store, run: Run, together: Together) -> list[Record]:
    start, stop = parse_chunk(run.data.tags[CHUNK])
    place = f"{run.info.artifact_uri}/{RECORDS_FILE}"
    text = kept_records(together, run)
    if text is None or not _is_logged(run, text):
        try:
            with local_artifact(store, run, RECORDS_FILE) as path:
                text = path.read_bytes()
        except Exception as error:  # every artifact store has failures of its own
            raise LatentWireError(f"its records cannot be read ({first_line(error)})") from error
        if not _is_logged(run, text):
            raise LatentWireError(f"its records are not those it logged ({place})")
    records = parse_records(text, place)
    if len(records) != stop - start:
        raise LatentWireError(f"it has {len(records)} records of {stop - start}")
    return records


def _is_logged(run: Run, text: bytes) -> bool:
    return hashlib.sha256(text).hexdigest() == run.data.tags.get(RECORDS_SHA256)


def identity_counts(chunks: Iterable[Run]) -> dict[str, int]:
    """Pair -> how many identities its chunk runs have; `newest` draws one of them."""
    found: dict[str, set[str]] = {}
    for run in chunks:
        found.setdefault(run.data.params["pair"], set()).add(_identity(run))
    return {pair: len(known) for pair, known in found.items()}


def origins(store: Store, chunks: Sequence[Run]) -> list[Origin]:
    """The milestone runs that computed some chunks, oldest first.

    What a run lacks (an artifact that was deleted, a field of a later version) stays empty: it
    is for people to read, and no number depends on it.
    """
    above = {
        run.info.run_id: run.data.tags.get(MLFLOW_PARENT_RUN_ID, "")
        for run in store.search(tags={LEVEL: "condition"})
    }
    answers: Counter[tuple[str, str]] = Counter()
    pairs: dict[tuple[str, str], str] = {}
    for run in chunks:
        milestone = above.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""), "")
        key = (milestone, run.data.tags[SOURCE])
        answers[key] += _examples(run)
        pairs[key] = run.data.params["pair"]
    wanted = {milestone for milestone, _ in answers}
    runs = [run for run in store.search(tags={LEVEL: "milestone"}) if run.info.run_id in wanted]
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
