"""The making of a calibration, once: on training questions of a pair's question sets."""

import json
import logging
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from latentwire.analysis.formatting import human_bytes
from latentwire.analysis.markdown import escape, markdown_table
from latentwire.channel.calibration import FORMAT, LAYER_RATES, from_bytes
from latentwire.channel.codec_names import needs_calibration
from latentwire.channel.registry import EXAMPLES, NAMES
from latentwire.errors import LatentWireError, NotCached
from latentwire.evaluation.fit_calibration import calibrate
from latentwire.session.cost_estimate import (
    QUESTIONS,
    Throughput,
    calibration_throughput,
    print_cost,
)
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.session import Session
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.question import Question
from latentwire.terminal import shows_bars, tell
from latentwire.tracking.calibration_lookup import (
    CALIBRATION,
    CALIBRATION_OF,
    DTYPE,
    FILE,
    PAIR_IDENTITY,
    read_calibration,
)
from latentwire.tracking.dataset_inputs import TRAINING, log_question_sets
from latentwire.tracking.leases import run_exclusively
from latentwire.tracking.runs import digest_of

log = logging.getLogger("latentwire")


def run_on(session: Session) -> None:
    """Calibrate a pair; nothing where it has been done."""
    values = session.values
    count = values["calibration_examples"]
    if values["dry_run"] and not _is_local(session):
        print(f"calibrate: the files of {session.pair.name} are not here yet; a run downloads them")
        print_cost(session, None, Throughput(), "calibration")
        return
    sets = [session.training(name) for name in session.dataset_names]
    about = {"pair": session.subject.pair, **session.learnt_on(sets, count)}
    request = digest_of({**about, "format": FORMAT, "layer_rates": LAYER_RATES})
    done = _finished(session, request)
    if done:
        print(f"calibrate: finished (run {done})")
        if values["dry_run"]:
            print_cost(session, 0, Throughput(), "calibration")
        return
    tell(f"calibrate: {count} questions each of {', '.join(s.name for s in sets)}")
    if values["dry_run"]:
        pace = calibration_throughput(session)
        questions = sum(min(count, len(s.examples)) for s in sets)
        print_cost(session, pace.time_for(questions), pace, "calibration")
        return
    with session_run(session, "calibrate") as milestone:
        for _, made_by in run_exclusively(
            milestone.leases,
            [request],
            lambda request: f"calibration:{request}",
            lambda request: _finished(session, request),
            lambda request: _make(session, milestone, sets, count, about, request),
            to_the_runs_end=True,  # the calibration is there for others once the run is FINISHED
        ):
            if made_by != milestone.run_id:
                print(f"calibrate: finished (run {made_by})")
                note = f"Another process calibrated meanwhile: run `{made_by}`."
                milestone.writer.set_description(milestone.run_id, note)


def _finished(session: Session, request: str) -> str | None:
    """The id of a run that has finished this calibration, and can give it."""
    found = session.store.search(
        f"tags.`{CALIBRATION}` != '' and attributes.status = 'FINISHED'",
        tags={CALIBRATION_OF: request},
    )
    for run in found:
        try:
            read_calibration(session.store, run)
            return str(run.info.run_id)
        except LatentWireError as error:
            log.warning("%s: it does not count", error)
    return None


def _make(
    session: Session,
    milestone: MilestoneRun,
    sets: Sequence[Dataset],
    count: int,
    about: Mapping[str, object],
    request: str,
) -> str:
    """Calibrate on the first `count` questions of each set; the id of the run that holds it."""
    log_checkpoints(milestone, session)
    writer, run_id = milestone.writer, milestone.run_id
    scored_never = {s.name: (s.hash, len(s.examples), s.source) for s in sets}
    log_question_sets(session.store, run_id, scored_never, TRAINING)
    asked = [q for s in sets for q in session.tokenized(s, count)]
    data = _calibrate(session, asked, about)
    found = from_bytes(data, "the new calibration")
    writer.log_bytes(run_id, data, FILE)
    writer.log_text(run_id, json.dumps(dict(found.about), indent=2), "calibration.json")
    tags = {
        CALIBRATION: found.hash,
        CALIBRATION_OF: request,
        PAIR_IDENTITY: session.subject.pair_identity,
        DTYPE: session.subject.dtype,
    }
    writer.log(run_id, tags=tags, metrics={"calibration_bytes": len(data), QUESTIONS: len(asked)})
    writer.set_description(run_id, _note(sets, count, len(data), found.hash))
    print(f"calibrate: {len(data)} bytes, sha256 {found.hash[:12]} (run {run_id})")
    return run_id


def _note(sets: Sequence[Dataset], count: int, size_bytes: int, digest: str) -> str:
    """The run's description in Markdown."""
    used = [(escape(s.name), str(min(count, len(s.examples))), s.hash[:10]) for s in sets]
    table = markdown_table(("question set", "questions", "hash"), used)
    codecs = ", ".join(name for name in (*NAMES, *EXAMPLES) if needs_calibration(name))
    head = (
        f"**What do the pair's caches look like?** {human_bytes(size_bytes)}, sha256"
        f" {digest[:10]}, from questions that are never scored. Codecs that use it: {codecs}."
    )
    return "\n".join([head, "", *table])


def _is_local(session: Session) -> bool:
    """Whether all that is calibrated on is here."""
    try:
        return session.is_local() and all(map(session.training, session.dataset_names))
    except NotCached:
        return False


def _calibrate(session: Session, questions: list[Question], about: Mapping[str, object]) -> bytes:
    with tqdm(unit="step", disable=not shows_bars()) as bar:

        def show(what: str, done: int, of: int) -> None:
            bar.set_description(f"calibrate: {what}")
            bar.total, bar.n = of, done
            bar.refresh()

        return calibrate(session.loaded, questions, about, show)
