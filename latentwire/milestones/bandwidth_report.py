"""M4's table and figures of bandwidth, where M1 has measured what they need."""

import logging
from pathlib import Path

import pandas as pd

from latentwire.analysis.break_even_bandwidth import LINKS_FILE, link_table
from latentwire.analysis.csv_files import write_csv
from latentwire.analysis.frames import under_budget, whole_caches
from latentwire.tracking.latency_results import latency_results
from latentwire.tracking.store import Store

log = logging.getLogger("latentwire")


def links_of(store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """The ways of the pairs and datasets of a budget curve that were computed here (see
    `analysis.break_even_bandwidth`), with the curve's accuracies; empty where M1 has measured
    nothing."""
    own = frame[frame["source"] == "local"]
    codecs, times = latency_results(store, set(own["pair"]))
    drawn = set(zip(own["pair"], own["dataset"], strict=True))
    here = [place in drawn for place in zip(times["pair"], times["dataset"], strict=True)]
    if drawn and not any(here):
        log.info("no times were measured for the question of bandwidth: run m1, then m4 again")
    return link_table(codecs, times[here], _of_ways(own, "score"), _no_better(own))


def write_links(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write links.csv; its path. Nothing for no row."""
    if table.empty:
        return []
    write_csv(table, folder / LINKS_FILE)
    return [folder / LINKS_FILE]


def _no_better(frame: pd.DataFrame) -> set[tuple[str, ...]]:
    """The ways whose score is not shown to be above the receiver's alone: the interval's lower end
    is no higher."""
    alone = frame[(frame["system"] == "receiver") & frame["complete"]]
    rows = alone[["pair", "dataset", "score"]].itertuples(index=False)
    score: dict[tuple[str, ...], float] = {(pair, dataset): each for pair, dataset, each in rows}
    lows = _of_ways(frame, "score_low")
    return {key for key, low in lows.items() if low <= score.get(key[:2], 0.0)}


def _of_ways(frame: pd.DataFrame, value: str) -> dict[tuple[str, ...], float]:
    """A column of the complete whole caches and texts, by what `link_table` knows them as."""
    frame = frame[frame["complete"]]
    whole = whole_caches(frame)
    texts = frame[(frame["system"] == "text") & (frame["codec"] == "utf8") & ~under_budget(frame)]
    columns = ["pair", "dataset", "codec", value]
    return {
        **{(p, d, codec): a for p, d, codec, a in whole[columns].itertuples(index=False)},
        **{
            (p, d, "text", str(int(tokens))): a
            for p, d, tokens, a in texts[["pair", "dataset", "message_tokens", value]].itertuples(
                index=False
            )
        },
    }
