"""M14's work: a table of cells, sentences and pictures, from what the store holds."""

import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentwire.analysis import csv_files
from latentwire.analysis.break_even_bandwidth import STARTS, figures
from latentwire.analysis.curve import ConditionResult, lent_of
from latentwire.analysis.frames import records
from latentwire.analysis.measured_condition import MeasuredCondition, measured_conditions
from latentwire.analysis.output_folder import copy_out
from latentwire.analysis.pictures import save_each
from latentwire.analysis.regimes import contenders
from latentwire.analysis.regimes_figure import draw_maps
from latentwire.analysis.regimes_table import (
    TABLE,
    Gains,
    Links,
    cell_rows,
    overview,
    regime_table,
    sentences,
)
from latentwire.analysis.regimes_times import ways
from latentwire.controls.registry import DERANGED, MATCHED, is_lent
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.pairs.load import name_in_runs
from latentwire.parameters import AUTO, Values
from latentwire.session.milestone_run import milestone_run
from latentwire.spec.axes import NONE, is_oracle
from latentwire.spec.setting import USUAL_SEED
from latentwire.tasks.registry import QuestionSet
from latentwire.tracking.latency_results import latency_results
from latentwire.tracking.outbox import flush_outbox
from latentwire.tracking.results_reader import (
    chunks_from,
    newest,
    read_answers,
    require_chunks,
    require_some,
)
from latentwire.tracking.runs import IDENTITY
from latentwire.tracking.store import Store

Place = tuple[str, str]  # pair and question set


def draw_regimes(store: Store, values: Values) -> None:
    """Write and log the cells of one pair or (`auto`) of every pair. LatentWireError where the
    store has nothing that could win."""
    flush_outbox(store)
    pair = None if values["pair"] == AUTO else name_in_runs(values["pair"])
    drawn, lent = _read(store, pair, values["dataset"])
    places = _complete(drawn)
    links = _links(store, places)
    gains = _gains(drawn, lent)
    rows: list[dict[str, Any]] = []
    for place, conditions in places.items():
        whole = [one for one in conditions if one.part.is_reference]
        for budget in values["budget_bytes"]:
            found = contenders(conditions, budget)
            rows += cell_rows(place, budget, found, whole, links[place], gains, values)
    if not rows:
        raise LatentWireError(
            "no question set has a finished condition within any of the budgets: run m0, m2 or m13"
            " on every question first, or give larger budget_bytes"
        )
    table = regime_table(rows)
    with (
        milestone_run(store, "m14", values, pair or "all pairs") as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        path = Path(folder) / TABLE
        csv_files.write_csv(table, path)
        written = [path, *save_each(draw_maps, table, Path(folder), "regimes_")]
        for each in written:
            run.writer.log_file(run.run_id, each)
        run.writer.log_text(run.run_id, "\n".join(sentences(table)) + "\n", "regimes.txt")
        print(*overview(table), sep="\n", flush=True)
        if values["output_dir"]:
            copy_out(values["output_dir"], "m14", written)


def _read(
    store: Store, pair: str | None, datasets: Sequence[QuestionSet] | None
) -> tuple[list[ConditionResult], dict[str, list[ConditionResult]]]:
    """The answers that a curve is drawn of; and those with other questions' messages by the seed
    that chose these, of any seed. Every chunk is looked up and read once."""
    asked = {str(each) for each in datasets or ()}
    chunks = [
        run
        for run in chunks_from(store, "local", pair)
        if not asked or run.data.params["dataset"] in asked
    ]
    require_chunks(store, chunks, ["local", pair, ", ".join(asked)])
    drawn = {run.info.run_id for run in newest(chunks)}
    identities = {run.data.tags.get(IDENTITY, "") for run in chunks if run.info.run_id in drawn}
    wanted = [
        run
        for run in chunks
        if run.info.run_id in drawn
        or (is_lent(run.data.params["control"]) and run.data.tags.get(IDENTITY, "") in identities)
    ]
    answers = read_answers(store, wanted)
    require_some(answers)
    by_seed = defaultdict(list)
    for run, result in answers.found:
        if result.control == DERANGED:
            by_seed[run.data.params.get("seed", str(USUAL_SEED))].append(result)
    return [result for run, result in answers.found if run.info.run_id in drawn], by_seed


def _complete(found: Sequence[ConditionResult]) -> dict[Place, list[MeasuredCondition]]:
    """Complete conditions by pair and question set, with the own message or none; no oracle is a
    message that could be sent."""
    by_place: dict[Place, list[MeasuredCondition]] = defaultdict(list)
    for one in measured_conditions(found):
        own = one.part.control in (MATCHED, NONE) and not is_oracle(one.part.order)
        if own and one.is_complete and not one.is_mute:
            by_place[one.part.pair, one.part.dataset].append(one)
    return by_place


def _links(store: Store, places: Collection[Place]) -> dict[Place, Links]:
    """What M1 timed of each pair and question set, by start; nothing of one that it did not."""
    codecs, times = latency_results(store, {pair for pair, _ in places})
    found: dict[Place, Links] = {place: {start: {} for start in STARTS} for place in places}
    for row in records(times):
        place = str(row["pair"]), str(row["dataset"])
        if place in found:
            own = codecs[(codecs["pair"] == place[0]) & (codecs["dataset"] == place[1])]
            measured = {str(each["codec"]): figures(each) for each in records(own)}
            found[place] = {start: ways(measured, figures(row), start) for start in STARTS}
    return found


def _gains(
    drawn: Sequence[ConditionResult], by_seed: Mapping[str, Sequence[ConditionResult]]
) -> Gains:
    """Every condition's answers with another question's message, an entry a donor of each seed, as
    far as they count (`lent_of`)."""
    own = {
        (one.part.pair, one.part.dataset, one.part.place): one.records
        for one in measured_conditions(part for part in drawn if part.control == MATCHED)
    }
    found: dict[tuple[str, str, tuple[Any, ...]], list[Mapping[str, Record]]] = defaultdict(list)
    for results in by_seed.values():
        by_place = defaultdict(list)
        for part in results:
            by_place[part.pair, part.dataset, part.place].append(part)
        for place, parts in by_place.items():
            found[place] += lent_of(parts, own.get(place, {})).answered
    return found
