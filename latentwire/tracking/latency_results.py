"""The only reader of M1's measurements, for the question of bandwidth."""

from collections.abc import Collection

import pandas as pd
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from latentwire.evaluation.latency_names import BUDGETS, RECEIVER_PREFILL, text_names
from latentwire.tracking.runs import CODEC_LEVEL, DEVICE, LEVEL, LINK_LEVEL
from latentwire.tracking.store import Store

_NEEDED = {
    LINK_LEVEL: {RECEIVER_PREFILL, *text_names(max(BUDGETS))},
    CODEC_LEVEL: {"encode_ms_mean", "decode_ms_mean", "wire_bytes_mean"},
}


def latency_results(store: Store, pairs: Collection[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The newest codec measurements and link times of some pairs: a row of pair, dataset, device
    (and codec) with the run's metrics each.

    Of codecs those that were measured on the device of the newest link times: times of different
    devices do not add up.
    """
    devices = {
        run.info.run_id: run.data.tags.get(DEVICE, "")
        for run in store.search(tags={LEVEL: "milestone"})
    }
    times: dict[tuple[str, str], dict[str, object]] = {}
    for run in _finished(store, LINK_LEVEL, pairs):
        row = _row(run, devices)
        times[str(row["pair"]), str(row["dataset"])] = row  # oldest first, so the newest stays
    codecs: dict[tuple[str, str, str], dict[str, object]] = {}
    for run in _finished(store, CODEC_LEVEL, pairs):
        row, codec = _row(run, devices), run.data.params["codec"]
        place = str(row["pair"]), str(row["dataset"])
        if row["device"] == times.get(place, {}).get("device"):
            codecs[*place, codec] = {**row, "codec": codec}
    columns = ["pair", "dataset", "device"]
    return (
        pd.DataFrame(list(codecs.values()), columns=None if codecs else [*columns, "codec"]),
        pd.DataFrame(list(times.values()), columns=None if times else columns),
    )


def _finished(store: Store, level: str, pairs: Collection[str]) -> list[Run]:
    return [
        run
        for run in store.search("attributes.status = 'FINISHED'", tags={LEVEL: level})
        if run.data.params.get("pair") in pairs and _NEEDED[level] <= run.data.metrics.keys()
    ]


def _row(run: Run, devices: dict[str, str]) -> dict[str, object]:
    return {
        "pair": run.data.params["pair"],
        "dataset": run.data.params["dataset"],
        "device": devices.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""), ""),
        **run.data.metrics,
    }
