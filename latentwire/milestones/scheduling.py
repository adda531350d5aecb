"""What M6 does: search schedules once, then the grid of them and of the codecs beside them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from latentwire.channel.registry import INTEGER_BITS
from latentwire.errors import LatentWireError
from latentwire.evaluation.answer_divergence import answers_in_16_bits, divergences, sites_of
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.schedule_search import Costs, base_bits, rivals, search, spelled
from latentwire.evaluation.tensor_distortion import distortions
from latentwire.milestones.m6 import DISTORTION
from latentwire.session.grid import run_grid
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.session import Session
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, tokenize
from latentwire.terminal import tell
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.dataset_inputs import TRAINING, log_question_sets
from latentwire.tracking.leases import run_exclusively
from latentwire.tracking.runs import digest_of

SCHEDULES = "latentwire.schedules"  # sha256 of the artifact, on the run that searched
SCHEDULES_OF = "latentwire.schedules_of"  # what was searched on, as a sha256
FILE = "schedules.json"
FORMAT = 3  # raise when the same questions may give other schedules


def compare_schedules(session: Session, parent: MilestoneRun | None = None) -> None:
    """Search what is not found in the store, and evaluate what is not finished."""
    values, codecs = session.values, list(session.values["codec"])
    request = _request(session)
    text = _finished(session, request)
    if text is None and values["dry_run"]:
        print("m6: schedules are not searched yet: their conditions are known after that")
    elif text is None:
        text = _searched_once(session, request, parent)
    codecs += json.loads(text)["schedules"].values() if text else []
    conditions = [
        Condition(C2C, Channel(name), control)
        for name in dict.fromkeys(codecs)
        for control in values["controls"]
    ]
    run_grid(session, "m6", conditions, parent)


def _request(session: Session) -> str:
    sets = [session.training(name) for name in session.dataset_names]
    count = session.values["calibration_examples"]
    return digest_of(
        {
            "pair_identity": session.subject.pair_identity,
            "dtype": session.subject.dtype,
            "questions": [{"set": s.name, "hash": s.hash, "first": count} for s in sets],
            "bits": list(session.values["searched_bits"]),
            "by": session.values["searched_by"],
            "format": FORMAT,
        }
    )


def _finished(session: Session, request: str) -> str | None:
    """The artifact of a run that has finished this search, whole as its hash says."""
    wanted = f"tags.`{SCHEDULES}` != '' and attributes.status = 'FINISHED'"
    for run in session.store.search(wanted, tags={SCHEDULES_OF: request}):
        try:
            with local_artifact(session.store, run, FILE) as path:
                data = path.read_bytes()
        except Exception:  # every artifact store has failures of its own: searched anew
            continue
        if hashlib.sha256(data).hexdigest() == run.data.tags[SCHEDULES]:
            return data.decode()
    return None


def _searched_once(session: Session, request: str, parent: MilestoneRun | None) -> str:
    session.prepare_work()
    with session_run(session, "m6_search", parent) as run:
        for _ in run_exclusively(
            run.leases,
            [request],
            lambda each: f"schedules:{each}",
            lambda each: _finished(session, each),
            lambda each: _search(session, run, each),
            to_the_runs_end=True,  # others find it once the run is FINISHED
        ):
            pass
    text = _finished(session, request)
    if text is None:
        raise LatentWireError("the schedules that were searched cannot be read from the store")
    return text


def _search(session: Session, run: MilestoneRun, request: str) -> str:
    """Search on training questions, and log the artifact; the run's id."""
    log_checkpoints(run, session)
    sets = [session.training(name) for name in session.dataset_names]
    count = session.values["calibration_examples"]
    used = {s.name: (s.hash, len(s.examples), s.source) for s in sets}
    log_question_sets(session.store, run.run_id, used, TRAINING)
    both = session.files.tokenizer, session.files.sharer_tokenizer
    questions = [q for s in sets for q in tokenize(s.task, s.examples[:count], *both)]
    asked = [question.under(session.pair.alignment) for question in questions]
    by = by_distortion if session.values["searched_by"] == DISTORTION else by_answer
    content = by(session.loaded, asked, session.values["searched_bits"])
    text = json.dumps(content, indent=1, sort_keys=True)
    run.writer.log_text(run.run_id, text, FILE)
    tags = {SCHEDULES: hashlib.sha256(text.encode()).hexdigest(), SCHEDULES_OF: request}
    # A schedule stands in every packet: nothing of it is known beforehand, and nothing is to add.
    run.writer.log(run.run_id, tags=tags, metrics={"schedules_bytes": len(text.encode())})
    for bits, name in content["schedules"].items():
        tell(f"m6: searched for {bits} bits: {name}")
    return run.run_id


def by_distortion(
    pair: LoadedPair, questions: Sequence[Question], means: Sequence[int]
) -> dict[str, Any]:
    """The artifact's content: for each mean the schedule by which tensors lose least."""
    costs = distortions(pair, questions)
    found = {bits: spelled(search(costs, bits), base_bits(bits)) for bits in means}
    return {"schedules": found, "costs": _told(costs), "questions": len(questions)}


def by_answer(
    pair: LoadedPair, questions: Sequence[Question], means: Sequence[int]
) -> dict[str, Any]:
    """The artifact's content: for each mean the schedule that is found by what bits cost the answer
    of one half of the questions, or one of its rivals, whichever costs the other half less."""
    answered = answers_in_16_bits(pair, questions)
    sites, measured, others = sites_of(pair), answered[::2], answered[1::2]
    single = [{site: bits} for bits in INTEGER_BITS for site in sites]
    nats = iter(divergences(pair, measured, single))
    costs = {bits: {site: next(nats) for site in sites} for bits in INTEGER_BITS}
    schedules, held_out = {}, {}
    for bits in means:
        tried = [*rivals(costs, bits), search(costs, bits)]
        names = [spelled(each, base_bits(bits)) for each in tried]
        held_out[bits] = dict(zip(names, divergences(pair, others, tried), strict=True))
        schedules[bits] = min(held_out[bits], key=held_out[bits].__getitem__)
    used = {"questions": len(measured), "held_out_questions": len(others)}
    return {"schedules": schedules, "costs": _told(costs), "held_out": held_out, **used}


def _told(costs: Costs) -> dict[int, dict[str, float]]:
    """Costs with tensors as a schedule names them, such as `keys3`."""
    return {
        bits: {f"{kind}s{layer}": cost for (kind, layer), cost in of_sites.items()}
        for bits, of_sites in costs.items()
    }
