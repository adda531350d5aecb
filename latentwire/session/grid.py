"""A grid of conditions over a pair's question sets, chunk by chunk, each chunk computed once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from latentwire.channel.codec_names import BY_TOKEN
from latentwire.channel.oracles.registry import chooses_by_layer, refusal
from latentwire.controls.registry import is_calibrated, is_lent
from latentwire.errors import LatentWireError
from latentwire.evaluation.worker_pool import begin_imports
from latentwire.garbage import importing
from latentwire.session.condition_plan import ConditionPlan, make_plans
from latentwire.session.cost_estimate import chunk_throughputs, print_cost
from latentwire.session.known_pairs import tags_of
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.open_grid import OpenGrid
from latentwire.session.preflight_state import COMPUTING, asked_workers
from latentwire.session.session import Session
from latentwire.spec.condition import Condition
from latentwire.tasks.question import lenders
from latentwire.terminal import tell
from latentwire.tracking.dataset_inputs import log_question_sets
from latentwire.tracking.outbox import flush_outbox
from latentwire.tracking.runs import CONDITION, FINGERPRINT, IDENTITY

if TYPE_CHECKING:  # they take seconds to import
    import pandas as pd

    from latentwire.tracking.results_reader import Unreadable

AndThen = Callable[[MilestoneRun, "pd.DataFrame"], None]

log = logging.getLogger("latentwire")


def run_grid(
    session: Session,
    name: str,
    conditions: Sequence[Condition],
    and_then: AndThen = lambda run, measured: None,
) -> None:
    """Evaluate conditions on the session's datasets and log them as milestone `name`; `and_then` is
    given the milestone's run and its rows of the curve.

    With `dry_run` it only says what would be computed, what is finished, and what that costs.
    """
    if (grid := plan_grid(session, name, conditions, and_then)) is not None:
        run_grids([grid])


@dataclass(frozen=True)
class Grid:
    """A milestone's conditions, and what each of them still needs."""

    session: Session
    name: str
    plans: Sequence[ConditionPlan]
    and_then: AndThen


def plan_grid(
    session: Session,
    name: str,
    conditions: Sequence[Condition],
    and_then: AndThen = lambda run, measured: None,
) -> Grid | None:
    """What `run_grids` takes, told; None where `dry_run` asks for no more."""
    if refused := refused_orders(session, conditions):
        raise LatentWireError("; ".join(f"order={name}: {why}" for name, why in refused.items()))
    _require_whole_tokens(conditions)
    conditions = _with_donors(conditions, session.values.get("donors", 1))
    dry_run = session.values["dry_run"]
    if dry_run and not session.is_local():
        _print_unknown(session, name, conditions)
        return None
    if not dry_run:
        flush_outbox(session.store)
    plans = _plans(session, conditions)
    if any(plan.missing for plan in plans) and session.prepare_work():
        plans = _plans(session, conditions)
    missing = sum(plan.examples_missing for plan in plans)
    wanted = sum(plan.examples for plan in plans)
    tell(f"{name}: {len(plans)} conditions, {wanted - missing} of {wanted} answers are finished")
    if dry_run:
        _print_plans(session, plans)
        return None
    return Grid(session, name, plans, and_then)


def run_grids(
    grids: Sequence[Grid],
    survive: Callable[[str, Callable[[], None]], None] = lambda name, conclude: conclude(),
) -> None:
    """Run milestones of one study, each with a run of its own. What they lack is computed in one
    pass, so that what their conditions have in common is computed once; then each concludes, by
    `survive`, which may keep an error so that the others go on."""
    with ExitStack() as stack:
        opened = []
        for grid in grids:
            own = stack.enter_context(ExitStack())  # ends by itself once the milestone concludes
            opened.append((grid, own, own.enter_context(_opened(grid))))
        _compute([each for _, _, each in opened])
        for grid, own, each in opened:
            survive(grid.name, partial(_conclude, grid, own, each))


@contextmanager
def _opened(grid: Grid) -> Iterator[OpenGrid]:
    session, plans = grid.session, grid.plans
    missing = any(plan.missing for plan in plans)
    with session_run(session, grid.name, computes=missing) as run:
        if missing and session.device == "cpu" and asked_workers(session.values) > 1:
            begin_imports(COMPUTING)
        log_checkpoints(run, session)
        run.writer.log(run.run_id, tags=tags_of(session.files))
        log_question_sets(session.store, run.run_id, question_sets(session, session.dataset_names))
        condition_runs = {plan.fingerprint: _start_condition(session, run, plan) for plan in plans}
        yield OpenGrid(session, run, plans, condition_runs)


def _conclude(grid: Grid, own: ExitStack, opened: OpenGrid) -> None:
    with importing():
        from latentwire.session.conclusion import answers_of, conclude  # they bring scipy

    with own.pop_all():
        parts = opened.session, opened.run, opened.plans, opened.condition_runs

        def compute(plans: Sequence[ConditionPlan], lost: "Sequence[Unreadable]") -> None:
            _compute([replace(opened, plans=plans)], lost)

        grid.and_then(opened.run, conclude(*parts, answers_of(*parts, compute)))


def refused_orders(session: Session, conditions: Sequence[Condition]) -> dict[str, str]:
    """The orders among conditions that the pair cannot have, each with the reason; none where its
    files are not here yet."""
    channels = [condition.channel for condition in conditions if condition.channel]
    channels = [channel for channel in channels if chooses_by_layer(channel.order)]
    if not channels or not session.is_local():  # whether it inserts takes torch to ask
        return {}
    inserts = session.files.inserts()
    found = {
        channel.order: refusal(
            channel.order, inserts, bool(channel.alignment or session.pair.alignment)
        )
        for channel in channels
    }
    return {order: why for order, why in found.items() if why}


def _require_whole_tokens(conditions: Sequence[Condition]) -> None:
    """LatentWireError for codecs by token of tokens that differ by layer: no question would be
    answered."""
    for channel in filter(None, (condition.channel for condition in conditions)):
        if channel.codec.startswith(BY_TOKEN) and chooses_by_layer(channel.order):
            raise LatentWireError(
                f"order={channel.order}: it chooses by layer, and {channel.codec} gives bits to"
                " whole tokens; take another order, or other codecs"
            )


def _with_donors(conditions: Sequence[Condition], donors: int) -> list[Condition]:
    """The conditions; where another question lends its message, one for each of so many."""
    return [
        replace(condition, donor=number)
        for condition in conditions
        for number in range(1, 1 + (donors if is_lent(condition.control) else 1))
    ]


def _require_donors(session: Session, conditions: Sequence[Condition]) -> None:
    """LatentWireError where a question set has fewer questions that could lend a message."""
    most = max((condition.donor for condition in conditions), default=1)
    for name in session.dataset_names:
        others = lenders(session.dataset(name).examples) - 1
        if 1 < most > others:
            raise LatentWireError(
                f"donors={most}: {name} has {others} other messages that a question could get;"
                " take fewer donors"
            )


def _plans(session: Session, conditions: Sequence[Condition]) -> list[ConditionPlan]:
    _require_donors(session, conditions)
    return make_plans(session, _calibrated(session, conditions))


def _calibrated(session: Session, conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions as they are run; without those whose control cannot be made."""
    found, reasons = [], {}
    for condition in conditions:
        try:
            found.append(session.calibrated(condition))
        except LatentWireError as error:
            if not is_calibrated(condition.control):
                raise
            reasons[condition.control] = str(error)
    for control, reason in reasons.items():
        log.warning("controls=%s is left out: %s", control, reason)
    return found


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


def _compute(grids: Sequence[OpenGrid], lost: "Sequence[Unreadable]" = ()) -> None:
    """Evaluate what is missing, if anything is: only then models and engine are imported."""
    if not any(plan.missing for grid in grids for plan in grid.plans):
        names = ", ".join(grid.run.name for grid in grids)
        log.info("%s: everything is finished, nothing to compute", names)
        return
    if grids[0].session.prepare_work():  # answers were lost, and meanwhile the pair is another
        raise LatentWireError("the pair's files or what reads them have changed: start again")
    with importing():
        from latentwire.session.computing import compute

    compute(grids, lost)


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
