"""M14's work: a table of cells, sentences and pictures, from what the store holds."""

import logging
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from latentwire.analysis import csv_files
from latentwire.analysis.break_even_bandwidth import STARTS, Route, table_routes
from latentwire.analysis.curve import REFERENCE, ConditionResult
from latentwire.analysis.measured_condition import MeasuredCondition, measured_conditions
from latentwire.analysis.output_folder import record_written
from latentwire.analysis.regimes import contenders
from latentwire.analysis.regimes_figure import write_regimes
from latentwire.analysis.regimes_table import Gains, Links, cell_rows, regime_table, sentences
from latentwire.controls.registry import DERANGED, MATCHED
from latentwire.errors import LatentWireError
from latentwire.milestones.bandwidth_report import links_of
from latentwire.milestones.budget_curves import copy_to, curve_of, gather
from latentwire.pairs.load import name_in_runs
from latentwire.parameters import AUTO, Values
from latentwire.session.milestone_run import milestone_run
from latentwire.spec.axes import NONE, is_oracle
from latentwire.spec.setting import USUAL_SEED
from latentwire.tracking.outbox import flush_outbox
from latentwire.tracking.results_reader import chunks_from, newest, results
from latentwire.tracking.runs import IDENTITY
from latentwire.tracking.store import Store

log = logging.getLogger("latentwire")

TABLE = "regimes.csv"
Place = tuple[str, str]  # pair and question set


def draw_regimes(store: Store, values: Values) -> None:
    """Write and log the cells of one pair or (`auto`) of every pair. LatentWireError where the
    store has nothing that could win."""
    flush_outbox(store)
    pair = None if values["pair"] == AUTO else name_in_runs(values["pair"])
    evidence = gather(store, ("local",), pair, values["dataset"])
    links = links_of(store, curve_of(evidence, 1.0))
    gains = _gains(store, pair, values["dataset"])
    rows: list[dict[str, Any]] = []
    for place, conditions in _complete(evidence.results).items():
        whole = [one for one in conditions if _is_reference(one)]
        for budget in values["budget_bytes"]:
            found = contenders(conditions, budget)
            rows += cell_rows(place, budget, found, whole, _ways(links, place), gains, values)
    if not rows:
        raise LatentWireError(
            "no question set has a finished condition within any of the budgets: run m0, m2 or m13"
            " on every question first, or give larger budget_bytes"
        )
    table = regime_table(rows)
    said = sentences(table)
    with (
        milestone_run(store, "m14", values, pair or "all pairs") as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        path = Path(folder) / TABLE
        csv_files.write_csv(table, path)
        written = [path, *write_regimes(table, Path(folder))]
        for each in written:
            run.writer.log_file(run.run_id, each)
        run.writer.log_text(run.run_id, "\n".join(said) + "\n", "regimes.txt")
        print(*said, sep="\n", flush=True)
        if values["output_dir"]:
            copy_to(values["output_dir"], written)
            if left := record_written(values["output_dir"], "m14", written):
                log.warning(left)


def _complete(found: Sequence[ConditionResult]) -> dict[Place, list[MeasuredCondition]]:
    """Complete conditions by pair and question set, with the own message or none; no oracle is a
    message that could be sent."""
    by_place: dict[Place, list[MeasuredCondition]] = defaultdict(list)
    for one in measured_conditions(found):
        own = one.part.control in (MATCHED, NONE) and not is_oracle(one.part.order)
        if own and one.is_complete and not one.is_mute:
            by_place[one.part.pair, one.part.dataset].append(one)
    return by_place


def _is_reference(one: MeasuredCondition) -> bool:
    """Whether it is the whole cache in 16 bits: what recomputation at the receiver's end gives."""
    assert REFERENCE.channel is not None
    point = REFERENCE.point
    return all(
        getattr(one.part, name) == getattr(point, name)
        for name in ("system", "codec", "keep_ratio", "budget_bytes", "budget_ratio")
    )


def _ways(links: pd.DataFrame, place: Place) -> Links:
    """What M1 timed of a pair and question set: the ways by start, and by name."""
    here = links[(links["pair"] == place[0]) & (links["dataset"] == place[1])]
    return {start: _by_label(here[here["start"] == start]) for start in STARTS}


def _by_label(rows: pd.DataFrame) -> Mapping[str, Route]:
    return {route.label: route for route in table_routes(rows)}


def _gains(store: Store, pair: str | None, datasets: Sequence[str] | None) -> Gains:
    """Every condition's records with another question's message, by each seed that chose one, of
    the identity that is drawn."""
    chunks = chunks_from(store, "local", pair)
    drawn = {run.data.tags.get(IDENTITY, "") for run in newest(chunks)}
    by_seed = defaultdict(list)
    for run in chunks:
        lent = run.data.params["control"] == DERANGED and run.data.tags.get(IDENTITY, "") in drawn
        if lent and (not datasets or run.data.params["dataset"] in datasets):
            by_seed[run.data.params.get("seed", str(USUAL_SEED))].append(run)
    found: dict[tuple[str, str, tuple[Any, ...]], list[Mapping[str, Any]]] = defaultdict(list)
    for runs in by_seed.values():
        for one in measured_conditions(results(store, runs)):
            found[one.part.pair, one.part.dataset, one.part.place].append(one.records)
    return found
