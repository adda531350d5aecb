"""M4's table and figures of bandwidth, where M1 has measured what they need."""

import logging
from pathlib import Path

import pandas as pd

from latentwire.analysis.bandwidth_figure import write_link_figures
from latentwire.analysis.break_even_bandwidth import LINKS_FILE, link_table, write_csv
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
    return link_table(codecs, times[here], _accuracies(own))


def write_links(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write links.csv and a figure a pair and dataset as PNG and SVG; paths. Nothing for no row."""
    if table.empty:
        return []
    write_csv(table, folder / LINKS_FILE)
    return [folder / LINKS_FILE, *write_link_figures(table, folder)]


def _accuracies(frame: pd.DataFrame) -> dict[tuple[str, ...], float]:
    frame = frame[frame["complete"]]
    whole = whole_caches(frame)
    texts = frame[(frame["system"] == "text") & (frame["codec"] == "utf8") & ~under_budget(frame)]
    columns = ["pair", "dataset", "codec", "score"]
    return {
        **{(p, d, codec): a for p, d, codec, a in whole[columns].itertuples(index=False)},
        **{
            (p, d, "text", str(int(tokens))): a
            for p, d, tokens, a in texts[["pair", "dataset", "message_tokens", "score"]].itertuples(
                index=False
            )
        },
    }
