"""What M6 does: search schedules once, then the grid of them and of the codecs beside them."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from latentwire.channel.registry import INTEGER_BITS
from latentwire.evaluation.answer_divergence import answers_in_16_bits, divergences, sites_of
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.schedule_search import Costs, base_bits, rivals, search, spelled
from latentwire.evaluation.tensor_distortion import distortions
from latentwire.milestones.m6 import DISTORTION
from latentwire.session.grid import run_grid
from latentwire.session.kept_search import KeptSearch
from latentwire.session.progress_lines import shown_progress
from latentwire.session.session import Session
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question
from latentwire.terminal import tell
from latentwire.tracking.runs import digest_of

SEARCH = KeptSearch("m6", "schedules.json", "latentwire.schedules")
FORMAT = 4  # raise when the same questions may give other schedules


def run_on(session: Session) -> None:
    """Search what is not found in the store, and evaluate what is not finished."""
    values, codecs = session.values, list(session.values["codec"])
    request = _request(session)
    text = SEARCH.finished(session, request)
    if text is None and values["dry_run"]:
        print("m6: schedules are not searched yet: their conditions are known after that")
    elif text is None:
        sets = [session.training(name) for name in session.dataset_names]
        text = SEARCH.searched_once(session, request, sets, partial(_search, session))
    codecs += json.loads(text)["schedules"].values() if text else []
    conditions = [
        Condition(C2C, Channel(name), control)
        for name in dict.fromkeys(codecs)
        for control in values["controls"]
    ]
    run_grid(session, "m6", conditions)


def _request(session: Session) -> str:
    sets = [session.training(name) for name in session.dataset_names]
    bits, by = list(session.values["searched_bits"]), session.values["searched_by"]
    learnt = session.learnt_on(sets, session.values["calibration_examples"])
    return digest_of(learnt | {"bits": bits, "by": by, "format": FORMAT})


def _search(session: Session) -> str:
    """Search on training questions; the artifact."""
    sets = [session.training(name) for name in session.dataset_names]
    count = session.values["calibration_examples"]
    questions = [q for s in sets for q in session.tokenized(s, count)]
    asked = [question.under(session.pair.alignment) for question in questions]
    by = by_distortion if session.values["searched_by"] == DISTORTION else by_answer
    content = by(session.loaded, asked, session.values["searched_bits"])
    for bits, name in content["schedules"].items():
        tell(f"m6: searched for {bits} bits: {name}")
    return json.dumps(content, indent=1, sort_keys=True)


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
    with shown_progress(len(measured) + len(others) * len(means), "m6", "question") as bar:
        nats = iter(divergences(pair, measured, single, bar.update))
        costs = {bits: {site: next(nats) for site in sites} for bits in INTEGER_BITS}
        schedules, held_out = {}, {}
        for bits in means:
            tried = [*rivals(costs, bits), search(costs, bits)]
            names = [spelled(each, base_bits(bits)) for each in tried]
            lost = divergences(pair, others, tried, bar.update)
            held_out[bits] = dict(zip(names, lost, strict=True))
            schedules[bits] = min(held_out[bits], key=held_out[bits].__getitem__)
    used = {"questions": len(measured), "held_out_questions": len(others)}
    return {"schedules": schedules, "costs": _told(costs), "held_out": held_out, **used}


def _told(costs: Costs) -> dict[int, dict[str, float]]:
    """Costs with tensors as a schedule names them, such as `keys3`."""
    return {
        bits: {f"{kind}s{layer}": cost for (kind, layer), cost in of_sites.items()}
        for bits, of_sites in costs.items()
    }
