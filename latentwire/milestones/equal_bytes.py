"""What M13 does: choose on development questions, once; then the grid of what was chosen, and the
table of budgets and kinds."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import pandas as pd

from latentwire.analysis.csv_files import csv_text
from latentwire.analysis.donors import lent_answers
from latentwire.analysis.equal_bytes import (
    Answered,
    Chosen,
    Tried,
    best_tried,
    equal_bytes_table,
    sentences,
)
from latentwire.analysis.equal_bytes_figure import draw_equal_bytes
from latentwire.analysis.pictures import save_each
from latentwire.channel.codec_names import BY_TOKEN, needs_calibration
from latentwire.controls.registry import DERANGED, MATCHED
from latentwire.errors import LatentWireError, NotCached
from latentwire.evaluation.engine import evaluate
from latentwire.milestones.m13 import CALIBRATED, PLAIN
from latentwire.parameters import AUTO
from latentwire.session.conclusion import stored_records
from latentwire.session.grid import refused_orders, run_grid
from latentwire.session.kept_search import KeptSearch
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.progress_lines import shown_progress
from latentwire.session.session import Session
from latentwire.spec.axes import BYTE_CODECS, C2C, CACHES, LM, SYSTEMS
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.tasks.question import Question
from latentwire.terminal import tell
from latentwire.tracking.runs import digest_of

TABLE = "equal_bytes.csv"
SEARCH = KeptSearch("m13", "channels.json", "latentwire.channels")
FORMAT = 2  # raise when the same questions may give other choices
LAYERS = "kvcomm"
WHOLE = "bf16"  # the codec of layers that are not quantized
Candidates = Mapping[tuple[int, str], Sequence[Condition]]  # by budget and kind
Scores = Mapping[str, Mapping[str, float]]  # by a condition's label


def run_on(session: Session) -> None:
    """Choose what is not chosen yet, and evaluate what is not finished."""
    tried = candidates(session)
    request = _request(session, tried)
    text = SEARCH.finished(session, request)
    if text is None and session.values["dry_run"]:
        print("m13: channels are not chosen yet: the conditions are known after that")
        return
    if text is None:
        sets = [session.development(name) for name in session.dataset_names]
        text = SEARCH.searched_once(session, request, sets, partial(_search, session, tried))
    chosen = _chosen(session, tried, json.loads(text)["measured"])
    unique = dict.fromkeys(each.condition for found in chosen.values() for each in found)
    controls = MATCHED, DERANGED
    conditions = [replace(each, control=control) for each in unique for control in controls]
    conditions.insert(0, Condition("receiver"))
    run_grid(session, "m13", conditions, partial(_log_table, session, chosen))


def candidates(session: Session) -> Candidates:
    """What is tried, by budget and kind; `matched`, as the pair runs it."""
    values, codecs = session.values, _codecs(session)
    orders = list(values["order"])
    layers = Condition(C2C, Channel(WHOLE, order=LAYERS, budget_bytes=1), MATCHED)
    refused = refused_orders(
        session, [layers, *(Condition(C2C, Channel(WHOLE, 0.5, o), MATCHED) for o in orders)]
    )
    for name, why in refused.items():
        tell(f"m13: left out: {name}: {why}")
    found: dict[tuple[int, str], list[Condition]] = {}
    for budget in values["budget_bytes"]:
        kinds = _caches(codecs, [o for o in orders if o not in refused], budget)
        if LAYERS not in refused:
            kinds |= _layers(codecs, budget)
        kinds |= _messages(values["message_tokens"], budget)
        found |= {
            (budget, kind): list(map(session.calibrated, conditions))
            for kind, conditions in kinds.items()
        }
    return found


def _codecs(session: Session) -> Sequence[str]:
    """Those named; without any, the usual ones, and those that the pair's calibration serves."""
    values = session.values
    if values["codec"]:
        return list(values["codec"])
    try:
        for name in CALIBRATED:
            session.calibrated_channel(Channel(name))
    except LatentWireError as error:
        if isinstance(error, NotCached) or values["calibration"] != AUTO:
            raise
        tell(f"m13: left out: {', '.join(CALIBRATED)}: {error}")
        return PLAIN
    return *PLAIN, *CALIBRATED


def _caches(codecs: Sequence[str], orders: Sequence[str], most: int) -> dict[str, list[Condition]]:
    from latentwire.channel.oracles.registry import chooses_by_layer

    found = [
        Condition(C2C, Channel(codec, order=order, budget_bytes=most), MATCHED)
        for codec in codecs
        for order in orders
        if not (_of_whole_tokens(codec) and chooses_by_layer(order))
    ]
    return {"cache": found} if found else {}


def _of_whole_tokens(codec: str) -> bool:
    """Whether it codes no layer by itself: bits by token, and `kvtc`."""
    return codec.startswith((BY_TOKEN, "kvtc"))


def _layers(codecs: Sequence[str], most: int) -> dict[str, list[Condition]]:
    def sent(codec: str) -> Condition:
        return Condition(C2C, Channel(codec, order=LAYERS, budget_bytes=most), MATCHED)

    quantized = [sent(name) for name in codecs if name != WHOLE and not _of_whole_tokens(name)]
    return {"layers": [sent(WHOLE)]} | ({"layers quantized": quantized} if quantized else {})


def _messages(tokens: Sequence[int], most: int) -> dict[str, list[Condition]]:
    def sent(system: str, codec: str, told: int) -> Condition:
        return Condition(system, control=MATCHED, message=Message(codec, told, most))

    texts = {codec: [sent("text", codec, max(tokens))] for codec in (*BYTE_CODECS, LM)}
    summaries = {codec: [sent("summary", codec, n) for n in tokens] for codec in (*BYTE_CODECS, LM)}
    return {
        "text": texts["utf8"],
        "text zstd": texts["utf8+zstd"],
        "summary": summaries["utf8"] + summaries["utf8+zstd"],
        "text LM-coded": texts[LM] + summaries[LM],
        "letter": [Condition("letter", control=MATCHED)],
        "logits": [Condition("logits", control=MATCHED)],
    }


def _request(session: Session, tried: Candidates) -> str:
    sets = [session.development(name) for name in session.dataset_names]
    told = [each.params() for found in tried.values() for each in found]
    learnt = session.learnt_on(sets, session.values["development_examples"])
    return digest_of(learnt | {"tried": told, "format": FORMAT})


def _search(session: Session, tried: Candidates) -> str:
    """Score candidates on each set's development questions; the artifact."""
    count, measured = session.values["development_examples"], {}
    for name in session.dataset_names:
        found = session.development(name)
        questions = session.tokenized(found, count)
        private, options = found.private, found.task.has_options
        asked = {
            place: [c for c in each if SYSTEMS[c.system].serves(private, options)]
            for place, each in tried.items()
        }
        plain = [c for each in asked.values() for c in each if not _is_calibrated(c)]
        scores = _measure(session, f"{name}: %d ways on %d of {found.name}", plain, questions)
        rest = _calibrated_ways(asked, scores)
        if rest:
            told = f"{name}: %d calibrated ways on %d of {found.name}"
            scores |= _measure(session, told, rest, questions)
        measured[name] = scores
    return json.dumps({"measured": measured}, indent=1, sort_keys=True)


def _is_calibrated(condition: Condition) -> bool:
    return condition.channel is not None and needs_calibration(condition.channel.codec)


def _calibrated_ways(tried: Candidates, scores: Scores) -> list[Condition]:
    """With a calibration, of each budget and kind the ways that choose tokens as the best of the
    others does: which tokens matter depends little on how their numbers are coded, and selectors
    times codecs would be many. Where no other was tried, all."""
    found = []
    for (budget, _), conditions in tried.items():
        best = best_tried(_ways(conditions, scores), budget)
        order = best.condition.channel.order if best and best.condition.channel else None
        found += [
            each
            for each in conditions
            if _is_calibrated(each) and each.channel and order in (None, each.channel.order)
        ]
    return found


def _measure(
    session: Session, told: str, conditions: Sequence[Condition], questions: Sequence[Question]
) -> dict[str, dict[str, float]]:
    """Each condition's score and bytes on the questions; `told` says what is asked."""
    unique = list(dict.fromkeys(conditions))
    tell(f"m13: {told % (len(unique), len(questions))}")
    with shown_progress(len(unique) * len(questions), "m13", "answer") as bar:
        answers = evaluate(
            session.loaded, unique, questions, questions, session.batch_size, bar.update
        )
    return {
        condition.label: {
            "score": mean(record.value for record in records),
            "wire_bytes_mean": mean(record.wire_bytes for record in records),
            "wire_bytes_max": max(record.wire_bytes for record in records),
            "questions": len(records),
        }
        for condition, records in answers.items()
    }


def _ways(conditions: Sequence[Condition], scores: Scores) -> list[Tried]:
    """Those of the conditions that were measured."""
    return [
        Tried(c, scores[c.label]["score"], *_sizes(scores[c.label]))
        for c in conditions
        if c.label in scores
    ]


def _chosen(
    session: Session, tried: Candidates, measured: Mapping[str, Scores]
) -> dict[str, list[Chosen]]:
    """Of each question set the best of each budget and kind."""
    found: dict[str, list[Chosen]] = {}
    for dataset, scores in measured.items():
        asked = str(session.development(dataset))
        found[dataset] = []
        for (budget, kind), conditions in tried.items():
            if best := best_tried(_ways(conditions, scores), budget):
                known = session.known_bytes(best.condition)
                told = Chosen(budget, kind, best.condition, best.score, asked, known)
                found[dataset].append(told)
    return found


def _sizes(told: Mapping[str, float]) -> tuple[float, float]:
    return told["wire_bytes_mean"], told["wire_bytes_max"]


def _answers(session: Session, dataset: str, condition: Condition) -> Answered:
    """A condition's answers to the own messages, and to those of each donor."""
    own = stored_records(session, dataset, condition)
    by_number = {
        number: stored_records(session, dataset, replace(condition, control=DERANGED, donor=number))
        for number in range(1, 1 + session.values["donors"])
    }
    return own, lent_answers(by_number, own, merges=condition.system in CACHES)


def _log_table(
    session: Session,
    chosen: Mapping[str, Sequence[Chosen]],
    run: MilestoneRun,
    measured: pd.DataFrame,
) -> None:
    """Print table and sentences, and log them and the pictures to the milestone's run."""
    tables = []
    for dataset, found in chosen.items():
        records = {each.condition: _answers(session, dataset, each.condition) for each in found}
        alone = stored_records(session, dataset, Condition("receiver"))
        tables.append(equal_bytes_table(session.pair.name, dataset, found, records, alone))
    if not tables:
        raise LatentWireError("no question set has anything to compare at equal bytes")
    table = pd.concat(tables, ignore_index=True)
    said = sentences(table)
    for name, text in ((TABLE, csv_text(table)), ("equal_bytes.txt", "\n".join(said) + "\n")):
        run.writer.log_text(run.run_id, text, name)
    with tempfile.TemporaryDirectory() as folder:
        for path in save_each(draw_equal_bytes, table, Path(folder), "equal_bytes_"):
            run.writer.log_file(run.run_id, path)
    print(*said, sep="\n", flush=True)
