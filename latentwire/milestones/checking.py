"""All checks, as `preflight` makes them; the fast ones are `session.preflight_state`'s."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

from latentwire.checks.report import (
    FAIL,
    Check,
    CheckReport,
    CheckResult,
    CheckSkipped,
    CheckWarning,
    run_checks,
)
from latentwire.checks.store import round_trip
from latentwire.errors import LatentWireError, first_line
from latentwire.evaluation import pipeline
from latentwire.pairs.identity import compare_with_pins
from latentwire.parameters import Values
from latentwire.session.milestone_run import MilestoneRun, milestone_run
from latentwire.session.preflight_state import (
    CACHES,
    DEVICE,
    DISK,
    FILES,
    MEMORY,
    PAIR,
    SCHEMA,
    PreflightState,
    describe,
    fast_checks,
)
from latentwire.session.session import Session
from latentwire.session.work_checks import inspect_files
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

ROUND_TRIP, DOWNLOAD, HASHES = "round trip", "download", "hashes"
LOADED, QUESTION = "pair in memory", "one question"


def check_all(values: Values) -> None:
    """All checks. Under `dry_run` nothing is downloaded or written, so no report is kept."""
    # MLflow would go on asking a server that refuses for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    opening = PreflightState(values)
    with ExitStack() as stack:
        runs: list[MilestoneRun] = []  # one, where the store takes it
        report = run_checks(_checks(opening, stack, runs), _show)
        counts = ", ".join(f"{number} {state}" for state, number in report.counts.items() if number)
        print(f"preflight: {counts} in {report.seconds:.1f} s")
        failure = _failure(report)
        if runs:
            _keep(report, runs[0], stack, failure)
        elif not values["dry_run"]:
            print("preflight: the report is not logged, for the store cannot be written")
    if failure:
        raise failure


def _show(finding: CheckResult) -> None:
    print(finding.render(), flush=True)


def _failure(report: CheckReport) -> LatentWireError | None:
    failed = [finding.title for finding in report.of(FAIL)]
    if not failed:
        return None
    return LatentWireError(
        f"preflight: {len(failed)} of {len(report.findings)} checks failed"
        f" ({', '.join(failed)}), see above"
    )


def _keep(
    report: CheckReport, run: MilestoneRun, stack: ExitStack, failure: LatentWireError | None
) -> None:
    """Log the report and end the run, as FAILED where a check failed."""
    try:
        with stack.pop_all():
            run.writer.log_text(run.run_id, report.text(), "preflight.txt")
            run.writer.log_text(run.run_id, report.json(), "preflight.json")
            if failure:
                raise failure
    except LatentWireError:
        raise
    except Exception as error:  # every artifact store has failures of its own
        reason = first_line(error)
        raise failure or LatentWireError(
            f"preflight: the report could not be logged: {reason}"
        ) from error


def _checks(opening: PreflightState, stack: ExitStack, runs: list[MilestoneRun]) -> Iterator[Check]:
    """The fast checks, and those that write, download, load and compute."""
    yield from fast_checks(opening, thorough=True)
    yield Check(
        ROUND_TRIP,
        lambda: _round_trip(opening, stack, runs),
        "see the server's log; its --artifacts-destination must be writable",
        needs=(SCHEMA,),
    )
    yield Check(
        DOWNLOAD,
        lambda: _download(opening),
        "mend the network, log in with `hf auth login`, or fill HF_HOME elsewhere",
        needs=(DEVICE, PAIR, FILES, CACHES, DISK),
    )
    yield Check(
        HASHES,
        lambda: _hashes(opening.session()),
        "fetch the files again, or correct sha256 in the pair's YAML file",
        needs=(DOWNLOAD,),
    )
    yield Check(
        LOADED,
        lambda: _loaded(opening.session()),
        "take the fuser that was trained for these models, with all its files",
        needs=(MEMORY, DOWNLOAD),
    )
    name = str(next(iter(opening.question_sets), ""))
    yield Check(
        QUESTION,
        lambda: _question(opening.session(), name),
        "with the checks above passed, report it with this report",
        needs=(LOADED, f"data {name}"),
    )


def _round_trip(opening: PreflightState, stack: ExitStack, runs: list[MilestoneRun]) -> str:
    """Open the run that the report goes to, and have it keep an artifact."""
    if opening.values["dry_run"]:
        raise CheckSkipped("nothing is written under dry_run")
    assert opening.store
    values = opening.values
    if opening.pair and opening.device:
        values = opening.session().resolved
    name = opening.pair.name if opening.pair else str(values["pair"])
    run = stack.enter_context(milestone_run(opening.store, "preflight", values, name))
    runs.append(run)
    return round_trip(opening.store, run.run_id)


def _download(opening: PreflightState) -> str:
    if not (opening.downloads or opening.datasets_missing):
        return "nothing to download"
    if opening.values["dry_run"]:
        raise CheckSkipped("nothing is downloaded under dry_run")
    session = opening.session()
    found = [inspect_files(opening, session.files.located)] if opening.downloads else []
    found += [describe(session.dataset(name)) for name in opening.datasets_missing]
    return "; ".join(found)


def _hashes(session: Session) -> str:
    pinned = compare_with_pins(session.pair, session.files.located)
    identity = session.files.identity
    name = f"the fuser is {identity['fuser'][:19]}" if "fuser" in identity else "there is no fuser"
    pins = f"as the pair pins them: {', '.join(pinned)}" if pinned else "the pair pins none"
    return f"{pins}; {name}"


def _loaded(session: Session) -> str:
    endpoint = session.loaded.endpoint
    if not endpoint.key_layers and not endpoint.value_layers:
        raise CheckWarning("every gate of the fuser is closed: C2C will equal the receiver alone")
    return (
        f"the interface fits; {session.loaded.interface.describe()}; sent: K of"
        f" {len(endpoint.key_layers)},"
        f" V of {len(endpoint.value_layers)} sharer layers"
    )


def _question(session: Session, dataset: str) -> str:
    questions, donors = session.asked(dataset), session.donors(dataset)
    condition = session.calibrated(Condition(C2C, Channel("int8"), "matched"))
    record = pipeline.evaluate(session.loaded, condition, questions[0], donors[0])
    if record.unanswered is not None:
        raise LatentWireError(record.unanswered)
    return f"answered {record.output!r} (key {record.answer}) over {record.wire_bytes:,} bytes"
