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
from latentwire.channel.codec_names import BY_TOKEN
from latentwire.controls.registry import DERANGED, MATCHED
from latentwire.errors import LatentWireError
from latentwire.evaluation.engine import evaluate
from latentwire.session.conclusion import stored_records
from latentwire.session.grid import refused_orders, run_grid
from latentwire.session.kept_search import KeptSearch
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.progress_lines import shown_progress
from latentwire.session.session import Session
from latentwire.spec.axes import BYTE_CODECS, C2C, CACHES, LM, SYSTEMS
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.terminal import tell
from latentwire.tracking.runs import digest_of

TABLE = "equal_bytes.csv"
SEARCH = KeptSearch("m13", "channels.json", "latentwire.channels")
FORMAT = 1  # raise when the same questions may give other choices
LAYERS = "kvcomm"
WHOLE = "bf16"  # the codec of layers that are not quantized
Candidates = Mapping[tuple[int, str], Sequence[Condition]]  # by budget and kind


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
    chosen = _chosen(tried, json.loads(text)["measured"])
    unique = dict.fromkeys(each.condition for found in chosen.values() for each in found)
    controls = MATCHED, DERANGED
    conditions = [replace(each, control=control) for each in unique for control in controls]
    conditions.insert(0, Condition("receiver"))
    run_grid(session, "m13", conditions, partial(_log_table, session, chosen))


def candidates(session: Session) -> Candidates:
    """What is tried, by budget and kind; `matched`, as the pair runs it."""
    values = session.values
    orders = list(values["order"])
    layers = Condition(C2C, Channel(WHOLE, order=LAYERS, budget_bytes=1), MATCHED)
    refused = refused_orders(
        session, [layers, *(Condition(C2C, Channel(WHOLE, 0.5, o), MATCHED) for o in orders)]
    )
    for name, why in refused.items():
        tell(f"m13: left out: {name}: {why}")
    found: dict[tuple[int, str], list[Condition]] = {}
    for budget in values["budget_bytes"]:
        kinds = _caches(values["codec"], [o for o in orders if o not in refused], budget)
        if LAYERS not in refused:
            kinds |= _layers(values["codec"], budget)
        kinds |= _messages(values["message_tokens"], budget)
        found |= {
            (budget, kind): list(map(session.calibrated, conditions))
            for kind, conditions in kinds.items()
        }
    return found


def _caches(codecs: Sequence[str], orders: Sequence[str], most: int) -> dict[str, list[Condition]]:
    from latentwire.channel.oracles.registry import chooses_by_layer

    found = [
        Condition(C2C, Channel(codec, order=order, budget_bytes=most), MATCHED)
        for codec in codecs
        for order in orders
        # Bits are given to whole tokens.
        if not (codec.startswith(BY_TOKEN) and chooses_by_layer(order))
    ]
    return {"cache": found} if found else {}


def _layers(codecs: Sequence[str], most: int) -> dict[str, list[Condition]]:
    def sent(codec: str) -> Condition:
        return Condition(C2C, Channel(codec, order=LAYERS, budget_bytes=most), MATCHED)

    quantized = [sent(name) for name in codecs if not name.startswith(BY_TOKEN) and name != WHOLE]
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
    """Score every candidate on each set's development questions; the artifact."""
    every = list(dict.fromkeys(each for found in tried.values() for each in found))
    count, measured = session.values["development_examples"], {}
    for name in session.dataset_names:
        found = session.development(name)
        questions = session.tokenized(found, count)
        private, options = found.private, found.task.has_options
        asked = [c for c in every if SYSTEMS[c.system].serves(private, options)]
        tell(f"m13: {name}: {len(asked)} ways on {len(questions)} questions of {found.name}")
        with shown_progress(len(asked) * len(questions), "m13", "answer") as bar:
            answers = evaluate(
                session.loaded, asked, questions, questions, session.batch_size, bar.update
            )
        measured[name] = {
            condition.label: {
                "score": mean(record.value for record in records),
                "wire_bytes_mean": mean(record.wire_bytes for record in records),
                "wire_bytes_max": max(record.wire_bytes for record in records),
                "questions": len(records),
            }
            for condition, records in answers.items()
        }
    return json.dumps({"measured": measured}, indent=1, sort_keys=True)


def _chosen(
    tried: Candidates, measured: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, list[Chosen]]:
    """Of each question set the best of each budget and kind."""
    found: dict[str, list[Chosen]] = {}
    for dataset, scores in measured.items():
        found[dataset] = []
        for (budget, kind), conditions in tried.items():
            ways = [
                Tried(c, scores[c.label]["score"], *_sizes(scores[c.label]))
                for c in conditions
                if c.label in scores
            ]
            if best := best_tried(ways, budget):
                found[dataset].append(Chosen(budget, kind, best.condition, best.score))
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
