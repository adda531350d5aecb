"""What M6 does: search schedules once, then the grid of them and of the codecs beside them."""

import json
from functools import partial
from typing import Any

from latentwire.evaluation.schedule_search import losses, search, spelled
from latentwire.session.grid import run_grid
from latentwire.session.kept_search import KeptSearch
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import tokenize
from latentwire.tracking.runs import digest_of

SEARCH = KeptSearch("m6", "schedules.json", "latentwire.schedules")
FORMAT = 2  # raise when the same questions may give other schedules


def compare_schedules(session: Session, parent: MilestoneRun | None = None) -> None:
    """Search what is not found in the store, and evaluate what is not finished."""
    values, codecs = session.values, list(session.values["codec"])
    request = _request(session)
    text = SEARCH.finished(session, request)
    if text is None and values["dry_run"]:
        print("m6: schedules are not searched yet: their conditions are known after that")
    elif text is None:
        sets = [session.training(name) for name in session.dataset_names]
        text = SEARCH.searched_once(session, request, sets, partial(_search, session), parent)
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
            "format": FORMAT,
        }
    )


def _search(session: Session) -> str:
    """Search on training questions; the artifact."""
    sets = [session.training(name) for name in session.dataset_names]
    count = session.values["calibration_examples"]
    both = session.files.tokenizer, session.files.sharer_tokenizer
    questions = [q for s in sets for q in tokenize(s.task, s.examples[:count], *both)]
    alignment = session.pair.alignment
    lost = losses(session.loaded, [question.under(alignment) for question in questions])
    found = {bits: spelled(search(lost, bits), bits) for bits in session.values["searched_bits"]}
    for bits, name in found.items():
        print(f"m6: searched for {bits} bits: {name}", flush=True)
    content: dict[str, Any] = {"schedules": found, "losses": lost, "questions": len(questions)}
    return json.dumps(content, indent=1, sort_keys=True)
