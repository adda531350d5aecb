"""M4: accuracy against bytes, drawn from the tracking store and from nothing else."""

import tempfile
from pathlib import Path

import pandas as pd

from latentwire.analysis.curve import build_curve, write_csv
from latentwire.analysis.figures import draw_budget_curve, save_png
from latentwire.analysis.load import chunks_from, newest, results
from latentwire.analysis.margins import DEFAULT_MARGIN_POINTS
from latentwire.analysis.rate_figures import draw_rate_accuracy
from latentwire.errors import LatentWireError
from latentwire.milestones.grid import log_table
from latentwire.milestones.milestone import MilestoneRun, milestone_run
from latentwire.parameters import (
    AUTO,
    DATASET,
    MARGIN_POINTS,
    OUTPUT_DIR,
    PAIR,
    SOURCE,
    Values,
)
from latentwire.tracking.outbox import deliver_waiting
from latentwire.tracking.store import Store, open_store, without_password

PARAMETERS = (PAIR, DATASET, SOURCE, MARGIN_POINTS, OUTPUT_DIR)
SOURCES = {"local": ("local",), "published": ("published",), "both": ("local", "published")}


def run(values: Values) -> None:
    run_in(open_store(), values)


def run_in(store: Store, values: Values, parent: MilestoneRun | None = None) -> None:
    """Draw what the store holds, of one pair or (`auto`) of every pair."""
    deliver_waiting(store)
    pair = None if values["pair"] == AUTO else values["pair"]
    frame = load_curve(
        store, SOURCES[values["source"]], pair, values["dataset"], values["margin_points"]
    )
    with milestone_run(store, "m4", values, pair or "all pairs", parent) as milestone:
        with tempfile.TemporaryDirectory() as folder:
            written = [*write(frame, Path(folder))]
            for path in written:
                milestone.writer.log_file(milestone.run_id, path)
        log_table(milestone, frame)
        run_info = store.client.get_run(milestone.run_id).info
        print(f"curves and table: {run_info.artifact_uri} (run {milestone.run_id})")
        if values["output_dir"]:
            for path in write(frame, values["output_dir"]):
                print(f"written: {path}")


def load_curve(
    store: Store,
    sources: tuple[str, ...],
    pair: str | None,
    datasets: tuple[str, ...] | None,
    margin_points: float = DEFAULT_MARGIN_POINTS,
) -> pd.DataFrame:
    """The budget curve's table from all finished chunks, each example counted once."""
    chunks = [run for source in sources for run in newest(chunks_from(store, source, pair))]
    if datasets:
        chunks = [run for run in chunks if run.data.params["dataset"] in datasets]
    if not chunks:
        what = " and ".join(filter(None, [" or ".join(sources), pair, ", ".join(datasets or ())]))
        raise LatentWireError(
            f"the tracking store {without_password(store.uri)} has no finished chunk runs ({what}):"
            " run m0, m2 or m3 first, or published for the published study"
        )
    return build_curve(results(store, chunks), margin_points=margin_points)


def write(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write budget_curve.csv and, for each pair and dataset, the budget curve and (with several
    codecs) accuracy against bits a number; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "budget_curve.csv"]
    write_csv(frame, paths[0])
    pairs = frame["pair"].unique()
    for pair, dataset in frame[["pair", "dataset"]].drop_duplicates().itertuples(index=False):
        stem = f"budget_curve_{dataset}" + (f"_{pair}" if len(pairs) > 1 else "")
        paths.append(folder / f"{stem}.png")
        save_png(draw_budget_curve(frame, dataset, pair), paths[-1])
        own = (frame["pair"] == pair) & (frame["dataset"] == dataset) & (frame["source"] == "local")
        if frame.loc[own & (frame["keep_ratio"] == 1), "bits_per_element"].notna().sum() > 1:
            paths.append(folder / f"{stem}.png".replace("budget_curve", "codec_rate"))
            save_png(draw_rate_accuracy(frame[own], dataset, pair), paths[-1])
    return paths
