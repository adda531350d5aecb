"""The making of a calibration, once: on training questions of a pair's question sets."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from latentwire.analysis.markdown import escape, markdown_table
from latentwire.analysis.units import human_bytes
from latentwire.channel.calibration import FORMAT, from_bytes
from latentwire.channel.registry import EXAMPLES, NAMES, needs_calibration
from latentwire.errors import LatentWireError, NotHere
from latentwire.evaluation.calibrate import calibrate
from latentwire.milestones.milestone import MilestoneRun, log_checkpoints, milestone_run
from latentwire.milestones.plan import QUESTIONS, Pace, calibration_pace, print_cost
from latentwire.milestones.study import Study, log
from latentwire.parameters import Values
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.question import Question, tokenize
from latentwire.tracking.calibrations import (
    CALIBRATION,
    CALIBRATION_OF,
    DTYPE,
    FILE,
    PAIR_IDENTITY,
    read_calibration,
)
from latentwire.tracking.inputs import TRAINING, log_question_sets
from latentwire.tracking.once import each_once
from latentwire.tracking.runs import digest_of


def calibrate_once(study: Study, values: Values, parent: MilestoneRun | None = None) -> None:
    """Calibrate a pair; nothing where it has been done."""
    count = values["calibration_examples"]
    if values["dry_run"] and not _is_local(study):
        print(f"calibrate: the files of {study.pair.name} are not here yet; a run downloads them")
        print_cost(study, None, Pace(), "calibration")
        return
    sets = [study.training(name) for name in study.dataset_names]
    about = {
        "pair": study.subject.pair,
        "pair_identity": study.subject.pair_identity,
        "dtype": study.subject.dtype,
        "questions": [{"set": s.name, "hash": s.hash, "first": count} for s in sets],
    }
    request = digest_of({**about, "format": FORMAT})
    done = _finished(study, request)
    if done:
        print(f"calibrate: finished (run {done})")
        if values["dry_run"]:
            print_cost(study, 0, Pace(), "calibration")
        return
    print(f"calibrate: {count} questions each of {', '.join(s.name for s in sets)}")
    if values["dry_run"]:
        pace = calibration_pace(study)
        questions = sum(min(count, len(s.examples)) for s in sets)
        print_cost(study, pace.time_for(questions), pace, "calibration")
        return
    resolved = study.resolved(values)
    with milestone_run(study.store, "calibrate", resolved, study.pair.name, parent) as milestone:
        for _, made_by in each_once(
            milestone.claims,
            [request],
            lambda request: f"calibration:{request}",
            lambda request: _finished(study, request),
            lambda request: _make(study, milestone, sets, count, about, request),
            to_the_runs_end=True,  # the calibration is there for others once the run is FINISHED
        ):
            if made_by != milestone.run_id:
                print(f"calibrate: finished (run {made_by})")
                note = f"Another process calibrated meanwhile: run `{made_by}`."
                milestone.writer.note(milestone.run_id, note)


def _finished(study: Study, request: str) -> str | None:
    """The id of a run that has finished this calibration, and can give it."""
    found = study.store.search(
        f"tags.`{CALIBRATION}` != '' and attributes.status = 'FINISHED'",
        tags={CALIBRATION_OF: request},
    )
    for run in found:
        try:
            read_calibration(study.store, run)
            return str(run.info.run_id)
        except LatentWireError as error:
            log.warning("%s: it does not count", error)
    return None


def _make(
    study: Study,
    milestone: MilestoneRun,
    sets: Sequence[Dataset],
    count: int,
    about: Mapping[str, object],
    request: str,
) -> str:
    """Calibrate on the first `count` questions of each set; the id of the run that holds it."""
    log_checkpoints(milestone, study)
    writer, run_id = milestone.writer, milestone.run_id
    scored_never = {s.name: (s.hash, len(s.examples), s.source) for s in sets}
    log_question_sets(study.store, run_id, scored_never, TRAINING)
    asked = [q for s in sets for q in tokenize(s.task, s.examples[:count], study.tokenizer)]
    data = _calibrate(study, asked, about)
    found = from_bytes(data, "the new calibration")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_bytes(data)
        writer.log_file(run_id, path)
    writer.log_text(run_id, json.dumps(dict(found.about), indent=2), "calibration.json")
    tags = {
        CALIBRATION: found.hash,
        CALIBRATION_OF: request,
        PAIR_IDENTITY: study.subject.pair_identity,
        DTYPE: study.subject.dtype,
    }
    writer.log(run_id, tags=tags, metrics={"calibration_bytes": len(data), QUESTIONS: len(asked)})
    writer.note(run_id, _note(sets, count, len(data), found.hash))
    print(f"calibrate: {len(data)} bytes, sha256 {found.hash} (run {run_id})")
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


def _is_local(study: Study) -> bool:
    """Whether all that is calibrated on is here."""
    try:
        return study.is_local() and all(map(study.training, study.dataset_names))
    except NotHere:
        return False


def _calibrate(study: Study, questions: list[Question], about: Mapping[str, object]) -> bytes:
    with tqdm(unit="step", disable=not sys.stderr.isatty()) as bar:

        def show(what: str, done: int, of: int) -> None:
            bar.set_description(f"calibrate: {what}")
            bar.total, bar.n = of, done
            bar.refresh()

        return calibrate(study.loaded, questions, about, show)
