"""A grid of conditions over a pair's question sets, chunk by chunk, each chunk computed once."""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.load import chunks_of, results
from latentwire.analysis.stats import wilson_interval
from latentwire.analysis.table import render_table
from latentwire.condition import Condition, Setting
from latentwire.evaluation import engine
from latentwire.evaluation.record import Record
from latentwire.milestones.milestone import MilestoneRun, log_checkpoints, milestone_run
from latentwire.milestones.plan import chunk_paces, print_cost
from latentwire.milestones.study import Study, log
from latentwire.parameters import Values
from latentwire.tracking.resume import chunk_name, finished_chunks
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT, IDENTITY

Span = tuple[int, int]  # examples start to stop - 1, in dataset order


@dataclass(frozen=True)
class Plan:
    """What one condition on one dataset still needs."""

    setting: Setting
    condition: Condition
    examples: int  # to be evaluated
    examples_total: int  # scored questions of the dataset
    missing: tuple[Span, ...]

    @property
    def fingerprint(self) -> str:
        return self.setting.condition_fingerprint(self.condition)

    @property
    def params(self) -> dict[str, str]:
        return {
            "pair": self.setting.pair,
            "dataset": self.setting.dataset,
            **self.condition.params(),
            "dtype": self.setting.dtype,
            "examples_total": str(self.examples_total),
        }

    @property
    def examples_missing(self) -> int:
        return sum(stop - start for start, stop in self.missing)


def run_grid(
    study: Study,
    name: str,
    values: Values,
    conditions: Sequence[Condition],
    parent: MilestoneRun | None = None,
) -> None:
    """Evaluate conditions on the study's datasets and log them as milestone `name`.

    With `dry_run` it only says what would be computed, what is finished, and what that costs.
    """
    if values["dry_run"] and not study.is_local():
        _print_unknown(study, name, conditions)
        return
    calibrated = [study.calibrated(condition) for condition in conditions]
    plans = [
        make_plan(study, dataset, condition)
        for dataset in study.dataset_names
        for condition in calibrated
    ]
    missing = sum(plan.examples_missing for plan in plans)
    wanted = sum(plan.examples for plan in plans)
    print(f"{name}: {len(plans)} conditions, {wanted - missing} of {wanted} answers are finished")
    if values["dry_run"]:
        _print_plans(study, plans)
        return
    with milestone_run(study.store, name, study.resolved(values), study.pair.name, parent) as run:
        log_checkpoints(run, study)
        condition_runs = {plan.fingerprint: _start_condition(run, plan) for plan in plans}
        _compute(study, run, plans, condition_runs)
        _conclude(study, run, plans, condition_runs)


def make_plan(study: Study, dataset: str, condition: Condition) -> Plan:
    """Which of a condition's chunks are missing in the store."""
    setting = study.setting(dataset)
    examples = study.examples(dataset)
    finished = finished_chunks(study.store, setting.condition_fingerprint(condition)).values()
    size = study.values["chunk_size"]
    chunks = [(start, min(start + size, examples)) for start in range(0, examples, size)]
    missing = uncovered(chunks, [(chunk.start, chunk.stop) for chunk in finished])
    total = len(study.dataset(dataset).examples)
    return Plan(setting, condition, examples, total, tuple(missing))


def uncovered(chunks: Iterable[Span], finished: Iterable[Span]) -> list[Span]:
    """The parts of `chunks` that no finished span covers, so that no example is answered twice,
    whatever chunk size or limit it was first answered with."""
    rest = list(chunks)
    for done_start, done_stop in finished:
        parts = []
        for start, stop in rest:
            parts.append((start, min(stop, done_start)))
            parts.append((max(start, done_stop), stop))
            if stop <= done_start or start >= done_stop:
                parts[-2:] = [(start, stop)]
        rest = [(start, stop) for start, stop in parts if start < stop]
    return sorted(rest)


def _start_condition(run: MilestoneRun, plan: Plan) -> str:
    title = f"{plan.setting.dataset} {plan.condition.label}"
    tags = {FINGERPRINT: plan.fingerprint, CONDITION: plan.fingerprint, **_identity(plan)}
    return run.writer.start(title, "condition", run.run_id, plan.params, tags)


def _identity(plan: Plan) -> dict[str, str]:
    return {IDENTITY: plan.setting.identity()}


def _compute(
    study: Study, run: MilestoneRun, plans: Sequence[Plan], condition_runs: dict[str, str]
) -> None:
    """Evaluate what is missing: conditions that lack the same examples go together."""
    missing = sum(plan.examples_missing for plan in plans)
    if not missing:
        log.info("%s: everything is finished, nothing to compute", run.name)
        return
    work = engine.Workspace(study.loaded)
    with tqdm(total=missing, desc=run.name, unit="answer", disable=not sys.stderr.isatty()) as bar:
        for dataset in study.dataset_names:
            questions, donors = study.questions(dataset)
            own = [plan for plan in plans if plan.setting.dataset == dataset]
            for start, stop in sorted({span for plan in own for span in plan.missing}):
                together = [plan for plan in own if (start, stop) in plan.missing]
                began = time.perf_counter()
                records = engine.evaluate(
                    study.loaded,
                    [plan.condition for plan in together],
                    questions[start:stop],
                    donors[start:stop],
                    study.batch_size,
                    bar.update,
                    work=work,
                )
                seconds = (time.perf_counter() - began) / len(together)
                for plan in together:
                    parent = condition_runs[plan.fingerprint]
                    _write_chunk(run, parent, plan, (start, stop), records[plan.condition], seconds)
                log.info(
                    "%s: %s %s, %d conditions, %.1f s",
                    run.name,
                    dataset,
                    chunk_name(start, stop),
                    len(together),
                    seconds * len(together),
                )


def _write_chunk(
    run: MilestoneRun,
    condition_run: str,
    plan: Plan,
    span: Span,
    records: Sequence[Record],
    seconds: float,
) -> None:
    title = f"{plan.setting.dataset} {plan.condition.label} {chunk_name(*span)}"
    tags = {
        FINGERPRINT: plan.setting.chunk_fingerprint(plan.condition, *span),
        CONDITION: plan.fingerprint,
        CHUNK: chunk_name(*span),
        **_identity(plan),
    }
    metrics = {**counted(records), "seconds": seconds}
    run.writer.write_chunk(title, condition_run, plan.params, tags, records, metrics)


def counted(records: Sequence[Record]) -> dict[str, float]:
    """The metrics that a chunk and a condition share."""
    correct = sum(record.correct for record in records)
    return {
        "examples": len(records),
        "correct": correct,
        "accuracy": correct / len(records),
        "wire_bytes_mean": sum(record.wire_bytes for record in records) / len(records),
    }


def _conclude(
    study: Study, run: MilestoneRun, plans: Sequence[Plan], condition_runs: dict[str, str]
) -> None:
    """Log every condition's aggregate over all its chunks, and the milestone's table."""
    found: dict[str, list[ConditionResult]] = {
        plan.fingerprint: results(study.store, chunks_of(study.store, [plan.fingerprint]))
        for plan in plans
    }
    frame = build_curve([result for parts in found.values() for result in parts])
    for plan in plans:
        unique = {r.example_id: r for part in found[plan.fingerprint] for r in part.records}
        metrics = counted(list(unique.values()))
        interval = wilson_interval(int(metrics["correct"]), int(metrics["examples"]))
        metrics |= {"accuracy_low": interval.low, "accuracy_high": interval.high}
        if plan.condition.control == "matched":
            metrics |= _pairing_gain(frame, plan)
        run.writer.finish(condition_runs[plan.fingerprint], metrics)
    log_table(run, frame)


def _pairing_gain(frame: pd.DataFrame, plan: Plan) -> dict[str, float]:
    """The row's pairing gain; nothing where the deranged control was not run."""
    channel = plan.condition.channel
    assert channel is not None
    row = frame[
        (frame["dataset"] == plan.setting.dataset)
        & (frame["codec"] == channel.codec)
        & (frame["calibration"].fillna("") == channel.calibration)
        & (frame["keep_ratio"] == channel.keep_ratio)
        & (frame["order"] == channel.order)
    ].iloc[0]
    names = ("pairing_gain", "pairing_gain_low", "pairing_gain_high")
    return {name: float(row[name]) for name in names if pd.notna(row[name])}


def log_table(run: MilestoneRun, frame: pd.DataFrame) -> None:
    """Print the table, and log it with its figures."""
    table = render_table(frame)
    print(table)
    run.writer.log_text(run.run_id, table, "table.txt")
    run.writer.log_text(run.run_id, frame.to_csv(index=False), "conditions.csv")
    run.writer.note(run.run_id, f"```\n{table}\n```")


def _print_unknown(study: Study, name: str, conditions: Sequence[Condition]) -> None:
    """The plan where files are missing: what is finished is known only with them."""
    print(f"{name}: the files of {study.pair.name} are not here yet; a run downloads them first")
    size, work, chunks = study.values["chunk_size"], [], 0
    for dataset in study.dataset_names:
        answers = study.examples(dataset)
        for condition in conditions:
            print(f"  {dataset:<12} {condition.label:<34} {answers} answers")
            work.append((condition, answers))
            chunks += -(-answers // size)
    _print_work(study, work, chunks)


def _print_plans(study: Study, plans: Sequence[Plan]) -> None:
    for plan in plans:
        done, chunks = plan.examples - plan.examples_missing, len(plan.missing)
        state = f"{done} of {plan.examples} finished, {chunks} {_chunks(chunks)} to do"
        state = state if plan.missing else "finished"
        print(f"  {plan.setting.dataset:<12} {plan.condition.label:<34} {state}")
    work = [(plan.condition, plan.examples_missing) for plan in plans]
    _print_work(study, work, sum(len(plan.missing) for plan in plans))


def _print_work(study: Study, work: Sequence[tuple[Condition, int]], chunks: int) -> None:
    answers = sum(missing for _, missing in work)
    print(f"  to do: {chunks} {_chunks(chunks)}, {answers} answers")
    paces = chunk_paces(study)
    print_cost(study, paces.time_for(work), paces.every, "chunk")


def _chunks(count: int) -> str:
    return "chunk" if count == 1 else "chunks"
