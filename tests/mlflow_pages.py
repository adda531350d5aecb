"""MLflow's pages in a browser, for tests and for the pictures of docs/mlflow.md."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import quote

from servers import mlflow_server

from latentwire.tracking.ui_views import View, view_address

T = TypeVar("T")
QUIET_S = 1.5  # without a change of the page's text, it is drawn
PATIENCE_S = 120


@contextmanager
def ui(uri: str) -> Iterator[str]:
    """The address of MLflow's server on a store; it is ended with the block."""
    with TemporaryDirectory() as folder, mlflow_server(Path(folder), uri) as port:
        yield f"http://127.0.0.1:{port}/"


def wait_for(found: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What a function finds, asked until it is true."""
    end = time.monotonic() + patience_s
    while not (value := found()):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing after {patience_s} s")
        time.sleep(0.3)
    return value


def runs_page(experiment_id: str, view: View) -> str:
    return view_address(experiment_id, view)


def milestone_page(experiment_id: str, run_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs/{run_id}"


def compare_page(experiment_id: str, run_ids: Sequence[str]) -> str:
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"#/compare-runs?runs={runs}&experiments={experiments}"


def show(page: Any, address: str, path: str) -> str:
    """Load a page, wait until it is drawn, and return its text."""
    page.get("about:blank")  # else another fragment of the same address loads nothing
    page.get(f"{address}{path}")
    end, text, since = time.monotonic() + PATIENCE_S, "", time.monotonic()
    while time.monotonic() < end:
        new = str(page.execute_script("return document.body.innerText"))
        if new != text:
            text, since = new, time.monotonic()
        elif len(text) > 200 and time.monotonic() - since > QUIET_S:
            break
        time.sleep(0.2)
    return text


def close_assistant(page: Any) -> None:
    """Close the panel that MLflow opens beside its pages, where it does."""
    page.execute_script(
        "const at = document.elementFromPoint(innerWidth - 37, 36)?.closest('button');"
        "if (document.body.innerText.includes('MLflow Assistant') && at) at.click();"
    )


def unfold_description(page: Any) -> None:
    """Show the whole description of a run's page, if a part is hidden."""
    page.execute_script(
        "[...document.querySelectorAll('button, a, span')]"
        ".filter(e => e.innerText === 'Show more').slice(0, 1).forEach(e => e.click())"
    )


def pictures(page: Any) -> dict[str, int]:
    """Address -> width in pixels, 0 where it cannot be had, of artifacts that the page shows."""
    script = """
        const found = [...document.images].filter(i => i.src.includes('get-artifact'));
        return Object.fromEntries(found.map(i => [i.src, i.complete ? i.naturalWidth : 0]));
    """
    return dict(page.execute_script(script))


def column_titles(page: Any) -> list[str]:
    """The titles of the runs table's columns, from left to right."""
    script = """
        return [...document.querySelectorAll('.ag-header-cell[col-id]')]
            .filter(cell => cell.offsetWidth)
            .sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x)
            .map(cell => cell.innerText.trim()).filter(text => text)
    """
    return list(page.execute_script(script))


def run_names(page: Any) -> list[str]:
    """The names in the runs table, from the top."""
    script = """
        return [...document.querySelectorAll('.ag-center-cols-container, .ag-pinned-left-cols-container')]
            .flatMap(part => [...part.querySelectorAll('a[href*="/runs/"]')])
            .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
            .map(link => link.innerText.trim()).filter(text => text)
    """  # noqa: E501
    return list(dict.fromkeys(page.execute_script(script)))
