"""What a grid concludes: its answers read from the store, logged as metrics, a table and pictures.
It brings scipy and matplotlib, so a grid imports it once there is something to conclude."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.uri import is_local_uri

from latentwire.analysis import unanswered
from latentwire.analysis.bootstrap import mean_interval
from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.curve import REFERENCE, ConditionResult, build_curve, merged, outcomes
from latentwire.analysis.stats import wilson_interval
from latentwire.analysis.table import endless_rows
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, record_lines
from latentwire.redaction import redact_uri
from latentwire.session.condition_plan import ConditionPlan, still_missing
from latentwire.session.curve_log import log_pictures, log_table
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session
from latentwire.spec.axes import PLACE_AXES
from latentwire.spec.condition import Condition
from latentwire.tasks.registry import task_of_records
from latentwire.tracking.kept_together import keep_together
from latentwire.tracking.results_reader import Unreadable, chunks_of, read_answers, results
from latentwire.tracking.runs import CONDITION, mark_repeated

log = logging.getLogger("latentwire")

# What M0 measures and everything else is compared with.
REFERENCE_CONDITIONS = (Condition("receiver"), Condition("sharer"), REFERENCE)


def answers_of(
    session: Session,
    run: MilestoneRun,
    plans: Sequence[ConditionPlan],
    condition_runs: Mapping[str, str],
    compute: Callable[[Sequence[ConditionPlan], Sequence[Unreadable]], None],
) -> dict[str, list[ConditionResult]]:
    """The answers of every condition, by its fingerprint. What the store calls finished and cannot
    give is computed again by `compute`, once. Answers that were written below a condition run of
    this milestone are kept there together.

    Raises LatentWireError where that cannot be read either.
    """
    lost: Sequence[Unreadable] = ()
    while True:
        prints = [plan.fingerprint for plan in plans]
        told = {entry.run.info.run_id for entry in lost}
        answers = read_answers(session.store, chunks_of(session.store, prints), told)
        parts: dict[str, list[tuple[Run, ConditionResult]]] = {name: [] for name in prints}
        for chunk, result in answers.found:
            parts[chunk.data.tags[CONDITION]].append((chunk, result))
        rest = [
            still_missing(session, plan, (c for c, _ in parts[plan.fingerprint])) for plan in plans
        ]
        missing = sum(plan.examples_missing for plan in rest)
        if not missing:
            for name, found in parts.items():
                _keep_together(run, condition_runs[name], found)
            return {name: [result for _, result in found] for name, found in parts.items()}
        if lost:
            raise LatentWireError(
                f"{missing} answers were computed again and cannot be read from the tracking store"
                " either: see where it keeps artifacts, then start again"
            )
        log.warning("%s: %d answers are no longer there and are computed again", run.name, missing)
        lost = answers.unreadable
        compute(rest, lost)


def _keep_together(
    run: MilestoneRun, condition_run: str, answers: Iterable[tuple[Run, ConditionResult]]
) -> None:
    """Spare whoever reads the answers behind a server a request for each chunk run."""
    texts = [
        record_lines(result.records)
        for chunk, result in answers
        if chunk.data.tags.get(MLFLOW_PARENT_RUN_ID) == condition_run
        and not is_local_uri(chunk.info.artifact_uri)
    ]
    if len(texts) > 1:
        keep_together(run.writer, condition_run, texts)


def stored_records(session: Session, dataset: str, condition: Condition) -> dict[str, Record]:
    """The answers, by example id, that the store has of the session's questions."""
    condition = session.calibrated(condition)
    fingerprint = session.setting(dataset).condition_fingerprint(condition)
    found = merged(condition.label, results(session.store, chunks_of(session.store, [fingerprint])))
    asked = session.dataset(dataset).examples[: session.examples(dataset)]
    return {example.id: found[example.id] for example in asked if example.id in found}


def stored_outcomes(session: Session, dataset: str, condition: Condition) -> dict[str, float]:
    """How good each of those answers is."""
    return outcomes(stored_records(session, dataset, condition))


def conclude(
    session: Session,
    run: MilestoneRun,
    plans: Sequence[ConditionPlan],
    condition_runs: dict[str, str],
    found: dict[str, list[ConditionResult]],
) -> pd.DataFrame:
    """Log every condition's aggregate over all its chunks, and the milestone's table, which is
    returned."""
    answers = [result for parts in found.values() for result in parts]
    frame = build_curve([*answers, *_beside(session, plans)])
    for plan in plans:
        unique = {r.example_id: r for part in found[plan.fingerprint] for r in part.records}
        if not unique:
            raise LatentWireError(
                f"{plan.setting.dataset} {plan.condition.label}: no answers of it are in the"
                f" store {redact_uri(session.store.uri)}, though all were computed: its"
                " chunk runs were deleted meanwhile, or written to another store; start again"
            )
        task = task_of_records(plan.setting.dataset)
        metrics = chunk_metrics(list(unique.values()), task)
        metrics |= _intervals(unique, metrics)
        if plan.condition.control == "matched":
            metrics |= _pairing_gain(frame, plan)
        run.writer.finish(condition_runs[plan.fingerprint], metrics)
    mark_repeated(session.store, {plan.setting.identity() for plan in plans}, condition_runs)
    measured = frame[_is_measured(frame, plans)]
    if run.is_part:  # its table is not shown, which says so
        for dataset, rows in measured.groupby("dataset", sort=False):
            for sentence in endless_rows(rows):
                log.warning("%s, %s", dataset, sentence)
    for sentence in unanswered.sentences(measured):
        log.warning("%s: %s", run.name, sentence)
    log_table(run, frame, measured, log_pictures(run, measured), shown=not run.is_part)
    return measured


def _intervals(records: Mapping[str, Record], metrics: Mapping[str, float]) -> dict[str, float]:
    """The ends of the accuracy's interval, and of the mean score's where that is another."""
    low, high = wilson_interval(int(metrics["correct"]), int(metrics["examples"]))
    found = {"accuracy_low": low, "accuracy_high": high}
    if "score_mean" in metrics:
        low, high = mean_interval(outcomes(records))
        found |= {"score_mean_low": low, "score_mean_high": high}
    return found


def _beside(session: Session, plans: Sequence[ConditionPlan]) -> list[ConditionResult]:
    """The answers that a grid is compared with, as far as they are finished: each model alone,
    and the whole cache in 16 bits."""
    settings = dict.fromkeys(plan.setting for plan in plans)
    prints = {
        setting.condition_fingerprint(condition)
        for setting in settings
        for condition in _references({plan.condition.alignment for plan in plans})
    }
    prints -= {plan.fingerprint for plan in plans}
    return results(session.store, chunks_of(session.store, sorted(prints))) if prints else []


def _references(alignments: Iterable[str]) -> list[Condition]:
    """REFERENCE_CONDITIONS, the cache's under each of some alignments too."""
    assert REFERENCE.channel is not None
    aligned = [replace(REFERENCE.channel, alignment=name) for name in alignments]
    return [*REFERENCE_CONDITIONS, *(replace(REFERENCE, channel=each) for each in aligned)]


def _is_measured(frame: pd.DataFrame, plans: Sequence[ConditionPlan]) -> "pd.Series[bool]":
    """Which rows hold a condition of the plans, under whatever control."""
    own = {_point(plan) for plan in plans}
    points = frame[list(_POINT)].astype(object).where(frame[list(_POINT)].notna(), None)
    return pd.Series([point in own for point in points.itertuples(index=False)], frame.index)


# What tells the rows of a curve apart, here where pair and source are one.
_POINT = ("dataset", *PLACE_AXES)


def _point(plan: ConditionPlan) -> tuple[object, ...]:
    return plan.setting.dataset, *plan.condition.point.place


def _pairing_gain(frame: pd.DataFrame, plan: ConditionPlan) -> dict[str, float]:
    """The row's pairing gain; nothing where the deranged control was not run."""
    row = frame[_is_measured(frame, [plan])].iloc[0]
    names = ("pairing_gain", "pairing_gain_low", "pairing_gain_high")
    return {name: float(row[name]) for name in names if pd.notna(row[name])}
