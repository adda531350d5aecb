"""LatentWire from Python: milestones as functions, and what a tracking store holds as data frames.

`import latentwire as lw` has all of it. A store is given as MLflow writes it
(`sqlite:///mlflow.db`, `https://server`) or as the path of a SQLite file; None is the one that
MLFLOW_TRACKING_URI names, or else `mlflow.db` in the working directory. While a call is at work it
sets that variable, so calls with stores of their own are not to be made from several threads.
Whatever is wrong is raised as LatentWireError, with the sentences that the command line ends with.
"""

# What a call needs is imported in it: torch, MLflow and pandas take seconds each.

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentwire.errors import LatentWireError, quoted
from latentwire.suggestion import known_names, to_run

if TYPE_CHECKING:
    import pandas as pd

    from latentwire.analysis.curve import ConditionResult
    from latentwire.milestones.registry import Milestone
    from latentwire.tracking.store import Store

_URI = "MLFLOW_TRACKING_URI"
_CURVE_FILE = "conditions.csv"  # the curve among a milestone run's artifacts


@dataclass(frozen=True)
class MilestoneResult:
    """What a milestone has left behind."""

    run_id: str | None  # the milestone's run; None where it made none, as in a dry run
    curve: "pd.DataFrame | None"  # its conditions (docs/columns.md); None where it measures none
    output_dir: Path | None  # where it also wrote files, if that was asked for
    tracking_uri: str  # the store that holds the run


def run(
    milestone: str, *, tracking_uri: str | Path | None = None, **parameters: Any
) -> MilestoneResult:
    """Run a milestone to its end, as `mlflow run . -e MILESTONE -P name=value` does.

    Args:
        milestone: its name, such as "m2".
        tracking_uri: the store, see above; one that is not there is made.
        parameters: as on the command line; a list or tuple is what commas are there, None leaves
            the default.

    Raises:
        LatentWireError: a milestone or parameter that there is not, a value that cannot be, a check
            that failed before the work, or work that could not be done. Finished chunks are kept.
    """
    from latentwire.milestones.registry import load_milestone

    with _sentences(), _tracking(tracking_uri) as uri:
        chosen = load_milestone(milestone)
        texts = _texts(chosen, parameters)
        from latentwire.parameters import checked
        from latentwire.run_entry_point import quiet_libraries

        quiet_libraries()
        values = checked(chosen.parameters, texts)
        from latentwire.session.milestone_run import told_runs

        with told_runs() as runs:
            chosen.run(values)
        run_id = runs[0] if runs else None
        return MilestoneResult(run_id, _curve_of(run_id), values.get("output_dir"), uri)


def curve(
    store: str | Path | None = None,
    *,
    pair: str | None = None,
    dataset: str | Sequence[str] | None = None,
    source: str = "local",
) -> "pd.DataFrame":
    """The budget curve of all finished answers: one row a condition.

    Args:
        store: see above.
        pair: one pair, as `-P pair=` takes it; None for all.
        dataset: one question set or several, by the names that tables have; None for all.
        source: "local", or "published" for the published study's answers.

    Returns:
        The columns of docs/columns.md in their order; shares and scores are 0 to 1, bytes are a
        question's. Texts are `string`, counts `int64` (`Int64` where there may be none), shares and
        means `float64`, truths `bool`; what there is not is NA or NaN.

    Raises:
        LatentWireError: no such store, or none of its answers are of that.
    """
    with _reading(store) as opened:
        from latentwire.milestones.budget_curves import load_curve
        from latentwire.pairs.load import name_in_runs

        names = (dataset,) if isinstance(dataset, str) else dataset
        named = name_in_runs(pair) if pair else None
        return load_curve(opened, (source,), named, tuple(names) if names else None)


def records(
    store: str | Path | None = None,
    *,
    pair: str | None = None,
    dataset: str | None = None,
    conditions: str | None = None,
    source: str = "local",
) -> "pd.DataFrame":
    """Every finished answer: one row a question under a condition and control.

    Args:
        store, pair, dataset, source: as of `curve`, one question set at most.
        conditions: only those, such as "codec=int8,control=deranged" (docs/compare.md); None for
            all. Without `control=`, a filter means the question's own message.

    Returns:
        `pair`, `dataset`, `source`, the axes of a condition and `control`, as in docs/columns.md;
        `example_id`, `answer` (the key), `predicted`, `output`, `message`, `unanswered` (why),
        `cluster`, `donor_id`, `donor_answer`: `string`, NA where there is none; `index` (the row
        in the question set, from 0), `prompt_tokens`, `generated_tokens`, `wire_bytes`, `elements`:
        `int64`; `correct`: `bool`; `score`, 0 to 1: `float64`.

    Raises:
        LatentWireError: as `curve`, and for a filter that says nothing.
    """
    with _reading(store) as opened:
        from latentwire.analysis.records_frame import records_frame
        from latentwire.spec.condition_filter import condition_filter

        wanted = condition_filter(conditions) if conditions else None
        found = answers(
            opened, source, pair, dataset, lambda run: wanted is None or wanted.takes_run(run)
        )
        taken = [part for part in found if wanted is None or wanted.takes(part, part.pair)]
        return records_frame(taken)


def nearest(
    store: str | Path | None = None,
    *,
    most_bytes: float | None = None,
    least_score: float | None = None,
    among: str | None = None,
    pair: str | None = None,
    dataset: str | None = None,
    source: str = "local",
) -> list[dict[str, Any]]:
    """Which condition to use on each question set, as `latentwire nearest --json` says it.

    Args:
        store, pair, dataset, source: as of `records`.
        most_bytes: at most so many a question, on average.
        least_score: at least so much accuracy, or F1, from 0 to 1. One of both must be given.
        among: conditions to choose from, such as "codec=int*"; None for any cache.

    Raises:
        LatentWireError: neither limit, or no answers; where nothing fits, `condition` is None and
            `notes` say so.
    """
    with _reading(store) as opened:
        from latentwire.analysis.nearest import ASKED, CACHES, Wanted, choose
        from latentwire.analysis.nearest_report import as_json
        from latentwire.spec.condition_filter import condition_filter

        limits = [limit for limit in (most_bytes, least_score) if limit is not None]
        if not limits or not all(0 < limit < math.inf for limit in limits):
            raise LatentWireError("give most_bytes or least_score (or both), a number above 0")
        wanted = Wanted(
            math.inf if most_bytes is None else most_bytes,
            least_score or 0,
            condition_filter(among) if among else CACHES,
        )
        found = answers(opened, source, pair, dataset, lambda run: run["control"] in ASKED)
        return as_json(choose(found, wanted))


def compare(
    first: str,
    second: str,
    store: str | Path | None = None,
    *,
    best: bool = False,
    pair: str | None = None,
    dataset: str | None = None,
    source: str = "local",
) -> list[dict[str, Any]]:
    """Two budget curves on each question set, as `latentwire compare --json` says it.

    Args:
        first, second: conditions of each, such as "order=front" (docs/compare.md).
        store, pair, dataset, source: as of `records`.
        best: of each, the best conditions at no more bytes.

    Raises:
        LatentWireError: a filter that says nothing, no answers, or no two curves.
    """
    with _reading(store) as opened:
        from latentwire.analysis.curve_comparison import compare_curves
        from latentwire.analysis.curve_comparison_report import as_json
        from latentwire.spec.condition_filter import condition_filter

        filters = condition_filter(first), condition_filter(second)
        found = answers(
            opened, source, pair, dataset, lambda run: any(one.takes_run(run) for one in filters)
        )
        compared, _ = compare_curves(found, *filters, best=best)
        return as_json(compared, filters)


def answers(
    store: "Store",
    source: str,
    pair: str | None,
    dataset: str | None,
    wanted: Callable[[Mapping[str, str]], bool],
) -> "list[ConditionResult]":
    """Internal: the answers of the runs whose parameters are wanted, of one question set or of all.
    LatentWireError where there are none."""
    from latentwire.pairs.load import name_in_runs
    from latentwire.tracking.results_reader import newest_results

    found = newest_results(
        store,
        source,
        name_in_runs(pair) if pair else None,
        lambda run: dataset in (None, run["dataset"]) and wanted(run),
    )
    if not found:
        asked = " ".join(filter(None, (source, pair, dataset)))
        raise LatentWireError(
            f"the tracking store has no finished answers of such conditions ({asked}):"
            f" {to_run(source)}, or name others"
        )
    return found


def _texts(milestone: "Milestone", given: Mapping[str, Any]) -> dict[str, str]:
    """A milestone's parameters as texts. LatentWireError for one that it does not have."""
    texts = {each.name: each.default for each in milestone.parameters}
    for name, value in given.items():
        if name not in texts:
            raise LatentWireError(
                f"{milestone.name} has no parameter {quoted(name)}"
                f"{known_names(name, texts, f'latentwire run {milestone.name} --help')}"
            )
        if value is not None:
            texts[name] = _text(value)
    return texts


def _text(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def _sentences() -> Iterator[None]:
    """Raise as LatentWireError what the command line says in a sentence."""
    from latentwire.ending import sentence

    try:
        yield
    except LatentWireError:
        raise
    except Exception as error:
        found = sentence(error)
        if found is None:  # a fault of the program
            raise
        raise LatentWireError(found[0]) from error


@contextmanager
def _tracking(store: str | Path | None) -> Iterator[str]:
    """Within the block, MLFLOW_TRACKING_URI names the store; its address."""
    from latentwire.tracking.store import sqlite_address, tracking_uri

    before = os.environ.get(_URI)
    if store is not None:
        is_address = isinstance(store, str) and ":" in store
        os.environ[_URI] = str(store) if is_address else sqlite_address(Path(store).absolute())
    try:
        yield tracking_uri()
    finally:
        os.environ.pop(_URI, None)
        if before is not None:
            os.environ[_URI] = before


@contextmanager
def _reading(store: str | Path | None) -> "Iterator[Store]":
    """A store that is there, to be read from."""
    from latentwire.run_entry_point import quiet_libraries
    from latentwire.tracking.store import open_store, sqlite_path

    quiet_libraries()
    with _sentences(), _tracking(store) as uri:
        path = sqlite_path(uri)
        if path is not None and not path.is_file():
            raise LatentWireError(f"there is no tracking store {path}: run a milestone first")
        yield open_store()


def _curve_of(run_id: str | None) -> "pd.DataFrame | None":
    """The curve that a milestone's run has logged, if it has one."""
    if run_id is None:
        return None
    from latentwire.analysis.curve import read_csv
    from latentwire.tracking.store import open_store

    client = open_store().client
    if all(each.path != _CURVE_FILE for each in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read_csv(Path(client.download_artifacts(run_id, _CURVE_FILE, folder)))
