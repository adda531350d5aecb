"""Saved views of the runs page: which runs, columns and order, chosen from the page's Views menu.

MLflow keeps a view as a tag of the experiment: a name, two times, and the state of the page as
JSON (docs/mlflow.md). An experiment gets them when it is first written to; a page that does not
know them leaves them out.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from latentwire.redaction import redact_uri

VIEW_TAG = "mlflow.sharedViewState."
PAGES = "&workflowType=machine_learning"  # else the menus of chats and traces stand beside it
EXPERIMENT_NOTE = "mlflow.note.content"
_MLFLOW_UI = "http://127.0.0.1:5000/"  # where `mlflow ui` listens unless it is told otherwise
COLUMN_WIDTH, DATASET_WIDTH = 110, 420  # pixels
DATASET = "attributes.`Dataset`"  # names and digests of the inputs


@dataclass(frozen=True)
class View:
    """What one view shows; columns as MLflow writes them (`metrics.`NAME``), in this order."""

    key: str  # in the page's address
    name: str
    level: str  # whose runs
    columns: tuple[str, ...]
    order_by: str
    without: str = ""  # a tag that runs it leaves out have


def _columns(kind: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{kind}.`{name}`" for name in names)


_OF_MILESTONES = (
    "tags.`latentwire.milestone`",
    "params.`pair`",
    *_columns("metrics", "accuracy", "wire_bytes_mean"),
    DATASET,
)
_OF_CONDITIONS = (
    "params.`dataset`",
    *_columns("metrics", "accuracy", "pairing_gain", "wire_bytes_mean", "examples"),
    *_columns("params", "codec", "keep_ratio", "order", "control", "system"),
)
REPEATED = "latentwire.repeated"  # of a condition's run: a later one has all of its answers too
STARTED, ACCURACY = "attributes.start_time", "metrics.`accuracy`"
VIEWS = (
    View("latentwire-milestones", "Milestones", "milestone", _OF_MILESTONES, STARTED),
    View("latentwire-conditions", "Conditions", "condition", _OF_CONDITIONS, ACCURACY, REPEATED),
)


def view_tags() -> Mapping[str, str]:
    """The tags of an experiment that hold its views."""
    now_ms = int(time.time() * 1000)
    return {f"{VIEW_TAG}{view.key}": _envelope(view, now_ms) for view in VIEWS}


def view_address(experiment_id: str, view: View) -> str:
    """Where the runs page shows a view, behind the server's address."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={view.key}{PAGES}"


def printed_address(uri: str, experiment_id: str) -> str:
    """Where to see what a run found: the view's address on a server, or that of `mlflow ui`."""
    view = view_address(experiment_id, VIEWS[0]).removesuffix(PAGES)
    if uri.startswith("http"):
        return f"{redact_uri(uri).rstrip('/')}/{view}"
    return f"{_MLFLOW_UI}{view}"


def experiment_note(experiment_id: str) -> str:
    """The experiment's description in Markdown."""
    links = " or ".join(f"[{view.name}]({view_address(experiment_id, view)})" for view in VIEWS)
    return f"Open the view {links}: without one, the page lists chunk runs too."


def _envelope(view: View, now_ms: int) -> str:
    rest = f" and tags.`{view.without}` IS NULL" if view.without else ""
    state = {
        "searchFilter": f"tags.`latentwire.level` = '{view.level}'{rest}",
        "orderByKey": view.order_by,
        "orderByAsc": False,
        "selectedColumns": list(view.columns),
        "columnOrder": list(view.columns),
        "columnWidths": {
            column: DATASET_WIDTH if column == DATASET else COLUMN_WIDTH for column in view.columns
        },
    }
    times = {"createdAt": now_ms, "updatedAt": now_ms}
    return json.dumps({"name": view.name, **times, "state": json.dumps(state)})
