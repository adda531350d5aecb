"""A grid of conditions over a pair's question sets, chunk by chunk, each chunk computed once."""

import logging
from collections.abc import Iterable, Sequence

import pandas as pd
from mlflow.entities import Run

from latentwire.analysis import unanswered
from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.curve import (
    REFERENCE,
    ConditionResult,
    build_curve,
)
from latentwire.analysis.letter_distribution import at_limit, endless
from latentwire.analysis.stats import wilson_interval
from latentwire.errors import LatentWireError
from latentwire.redaction import redact_uri
from latentwire.session.condition_plan import ConditionPlan, make_plans, still_missing
from latentwire.session.cost_estimate import chunk_throughputs, print_cost
from latentwire.session.curve_log import log_pictures, log_table
from latentwire.session.known_pairs import tags_of
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.session import Session
from latentwire.spec.axes import PLACE_AXES
from latentwire.spec.condition import Condition
from latentwire.tasks.registry import task_of_records
from latentwire.tracking.dataset_inputs import log_question_sets
from latentwire.tracking.outbox import flush_outbox
from latentwire.tracking.results_reader import Unreadable, chunks_of, read_answers, results
from latentwire.tracking.runs import (
    CONDITION,
    FINGERPRINT,
    IDENTITY,
)

log = logging.getLogger("latentwire")

# What M0 measures and everything else is compared with.
REFERENCE_CONDITIONS = (
    Condition("receiver"),
    Condition("sharer"),
    REFERENCE,
)


def run_grid(
    session: Session,
    name: str,
    conditions: Sequence[Condition],
    parent: MilestoneRun | None = None,
) -> None:
    """Evaluate conditions on the session's datasets and log them as milestone `name`.

    With `dry_run` it only says what would be computed, what is finished, and what that costs.
    """
    dry_run = session.values["dry_run"]
    if dry_run and not session.is_local():
        _print_unknown(session, name, conditions)
        return
    if not dry_run:
        flush_outbox(session.store)
    plans = _plans(session, conditions)
    if any(plan.missing for plan in plans) and session.prepare_work():
        plans = _plans(session, conditions)
    missing = sum(plan.examples_missing for plan in plans)
    wanted = sum(plan.examples for plan in plans)
    print(f"{name}: {len(plans)} conditions, {wanted - missing} of {wanted} answers are finished")
    if dry_run:
        _print_plans(session, plans)
        return
    with session_run(session, name, parent, computes=missing > 0) as run:
        log_checkpoints(run, session)
        run.writer.log(run.run_id, tags=tags_of(session.files))
        log_question_sets(session.store, run.run_id, question_sets(session, session.dataset_names))
        condition_runs = {plan.fingerprint: _start_condition(session, run, plan) for plan in plans}
        _compute(session, run, plans, condition_runs)
        found = _answers(session, run, plans, condition_runs)
        _conclude(session, run, plans, condition_runs, found)


def _plans(session: Session, conditions: Sequence[Condition]) -> list[ConditionPlan]:
    return make_plans(session, [session.calibrated(condition) for condition in conditions])


def question_sets(session: Session, names: Iterable[str]) -> dict[str, tuple[str, int, str]]:
    """What `log_question_sets` takes, of question sets that are scored."""
    sets = [session.dataset(name) for name in names]
    return {found.name: (found.hash, len(found.examples), found.source) for found in sets}


def _start_condition(session: Session, run: MilestoneRun, plan: ConditionPlan) -> str:
    title = f"{plan.setting.dataset} {plan.condition.label}"
    tags = {
        FINGERPRINT: plan.fingerprint,
        CONDITION: plan.fingerprint,
        IDENTITY: plan.setting.identity(),
    }
    run_id = run.writer.start(title, "condition", run.run_id, plan.params, tags)
    log_question_sets(session.store, run_id, question_sets(session, [plan.setting.dataset]))
    return run_id


def _answers(
    session: Session,
    run: MilestoneRun,
    plans: Sequence[ConditionPlan],
    condition_runs: dict[str, str],
) -> dict[str, list[ConditionResult]]:
    """The answers of every condition, by its fingerprint. What the store calls finished and cannot
    give is computed again, once.

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
            return {name: [result for _, result in found] for name, found in parts.items()}
        if lost:
            raise LatentWireError(
                f"{missing} answers were computed again and cannot be read from the tracking store"
                " either: see where it keeps artifacts, then start again"
            )
        log.warning("%s: %d answers are no longer there and are computed again", run.name, missing)
        lost = answers.unreadable
        _compute(session, run, rest, condition_runs, lost)


def _compute(
    session: Session,
    run: MilestoneRun,
    plans: Sequence[ConditionPlan],
    condition_runs: dict[str, str],
    lost: Sequence[Unreadable] = (),
) -> None:
    """Evaluate what is missing, if anything is: only then models and engine are imported."""
    if not any(plan.missing for plan in plans):
        log.info("%s: everything is finished, nothing to compute", run.name)
        return
    if session.prepare_work():  # answers were lost, and meanwhile the pair is another
        raise LatentWireError("the pair's files or what reads them have changed: start again")
    from latentwire.session.computing import compute

    compute(session, run, plans, condition_runs, lost)


def _conclude(
    session: Session,
    run: MilestoneRun,
    plans: Sequence[ConditionPlan],
    condition_runs: dict[str, str],
    found: dict[str, list[ConditionResult]],
) -> None:
    """Log every condition's aggregate over all its chunks, and the milestone's table."""
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
        name = f"{plan.setting.dataset}, {plan.condition.label}"
        if sentence := endless(name, at_limit(unique.values(), task), len(unique), task):
            log.warning("%s", sentence)
        interval = wilson_interval(int(metrics["correct"]), int(metrics["examples"]))
        metrics |= {"accuracy_low": interval.low, "accuracy_high": interval.high}
        if plan.condition.control == "matched":
            metrics |= _pairing_gain(frame, plan)
        run.writer.finish(condition_runs[plan.fingerprint], metrics)
    measured = frame[_is_measured(frame, plans)]
    for sentence in unanswered.sentences(measured):
        log.warning("%s: %s", run.name, sentence)
    log_table(run, frame, measured, log_pictures(run, measured))


def _beside(session: Session, plans: Sequence[ConditionPlan]) -> list[ConditionResult]:
    """The answers that a grid is compared with, as far as they are finished: each model alone,
    and the whole cache in 16 bits."""
    settings = dict.fromkeys(plan.setting for plan in plans)
    prints = {
        setting.condition_fingerprint(condition)
        for setting in settings
        for condition in REFERENCE_CONDITIONS
    }
    prints -= {plan.fingerprint for plan in plans}
    return results(session.store, chunks_of(session.store, sorted(prints))) if prints else []


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


def _print_unknown(session: Session, name: str, conditions: Sequence[Condition]) -> None:
    """The plan where files are missing: what is finished is known only with them."""
    print(f"{name}: the files of {session.pair.name} are not here yet; a run downloads them first")
    size, work, chunks = session.values["chunk_size"], [], 0
    for dataset in session.dataset_names:
        answers = session.examples(dataset)
        for condition in conditions:
            print(f"  {dataset:<12} {condition.label:<34} {answers} answers")
            work.append((condition, answers))
            chunks += -(-answers // size)
    _print_work(session, work, chunks)


def _print_plans(session: Session, plans: Sequence[ConditionPlan]) -> None:
    for plan in plans:
        done, chunks = plan.examples - plan.examples_missing, len(plan.missing)
        state = f"{done} of {plan.examples} finished, {chunks} {_chunks(chunks)} to do"
        state = state if plan.missing else "finished"
        print(f"  {plan.setting.dataset:<12} {plan.condition.label:<34} {state}")
    work = [(plan.condition, plan.examples_missing) for plan in plans]
    _print_work(session, work, sum(len(plan.missing) for plan in plans))


def _print_work(session: Session, work: Sequence[tuple[Condition, int]], chunks: int) -> None:
    answers = sum(missing for _, missing in work)
    print(f"  to do: {chunks} {_chunks(chunks)}, {answers} answers")
    paces = chunk_throughputs(session)
    print_cost(session, paces.time_for(work), paces.every, "chunk")


def _chunks(count: int) -> str:
    return "chunk" if count == 1 else "chunks"
