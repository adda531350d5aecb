"""What M14 has found in a store, for M4's report: its newest finished run of each pair and question
set."""

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import Run

from latentwire.analysis.provenance import Origin
from latentwire.analysis.regimes_table import TABLE, read_csv
from latentwire.analysis.report.regimes_data import regimes_data
from latentwire.errors import first_line
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.runs import LEVEL, MILESTONE
from latentwire.tracking.store import Store

log = logging.getLogger("latentwire")


def found_regimes(
    store: Store, drawn: Collection[tuple[str, str]], origins: Sequence[Origin]
) -> list[dict[str, Any]]:
    """The report's maps of the pairs and question sets that are drawn; none where M14 was not run.
    A table that cannot be read is left out with a warning. `origins` computed what is drawn."""
    maps: dict[tuple[str, str], dict[str, Any]] = {}
    runs = store.search(
        "attributes.status = 'FINISHED'", tags={LEVEL: "milestone", MILESTONE: "m14"}
    )
    for run in runs:  # oldest first, so the newest stays
        try:
            with local_artifact(store, run, TABLE) as path:
                table = read_csv(path)
        except Exception as error:  # every artifact store has failures of its own
            log.warning("m14's run %s is left out: %s", run.info.run_id, first_line(error))
            continue
        for each in regimes_data(table, ""):
            place = each["pair"], each["dataset"]
            if place in drawn:
                maps[place] = each | {"note": _note(run, place[0], origins)}
    return list(maps.values())


def _note(run: Run, pair: str, origins: Sequence[Origin]) -> str:
    made = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    newer = any(
        each.pair == pair and (each.ended_ms is None or each.ended_ms > run.info.start_time)
        for each in origins
    )
    since = "; answers have been added since: run m14 again" if newer else ""
    return f"As m14 found it ({made}, run {run.info.run_id[:8]}){since}."
