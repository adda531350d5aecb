"""Grids of one study that are computed in one pass, as `main` has M0, M2 and M3."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import run_milestone
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from latentwire.errors import LatentWireError
from latentwire.evaluation import engine
from latentwire.milestones import m0, m2, m3, m8, main
from latentwire.parameters import Values
from latentwire.session.grid import Grid, plan_grid, run_grids
from latentwire.session.preflight_state import open_session
from latentwire.session.session import Session
from latentwire.tracking.runs import CONDITION, LEVEL
from latentwire.tracking.store import Store

FEW = {"dataset": "demo_facts", "limit": 4}


def planned(session: Session, name: str, module: Any, values: Values) -> Grid:
    grid = plan_grid(session.under(values), name, module.conditions(values))
    assert grid is not None
    return grid


def level(store: Store, name: str) -> list[Any]:
    return [run for run in store.search() if run.data.tags[LEVEL] == name]


def test_what_several_grids_ask_is_computed_once(
    empty: Path, values: Callable[..., Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"m2": values(m2, kv_bits="8,4", **FEW), "m3": values(m3, keep_ratio="1,0.5", **FEW)}
    session = open_session(given["m2"])
    calls: list[int] = []
    evaluate = engine.evaluate

    def counted(pair: Any, conditions: Any, *rest: Any, **more: Any) -> Any:
        calls.append(len(conditions))
        return evaluate(pair, conditions, *rest, **more)

    monkeypatch.setattr(engine, "evaluate", counted)
    run_grids(
        [planned(session, name, module, given[name]) for name, module in (("m2", m2), ("m3", m3))]
    )
    # int8 and int4, whole; of int8 a half from either end: own and another's. int8 is asked twice.
    assert calls == [8]
    chunks = level(session.store, "chunk")
    assert set(Counter(run.data.tags[CONDITION] for run in chunks).values()) == {1}
    milestones = {run.info.run_id: run.info.run_name for run in level(session.store, "milestone")}
    above = {
        run.info.run_id: milestones[run.data.tags[MLFLOW_PARENT_RUN_ID]]
        for run in level(session.store, "condition")
    }
    assert Counter(above.values()) == {"m2 demo": 4, "m3 demo": 6}
    owners = Counter(above[run.data.tags[MLFLOW_PARENT_RUN_ID]] for run in chunks)
    assert owners == {"m2 demo": 4, "m3 demo": 4}
    assert {run.info.status for run in session.store.search()} == {"FINISHED"}
    # Each by itself finds all of it.
    monkeypatch.setattr(engine, "evaluate", None)
    run_milestone(m3, given["m3"])


def test_one_that_cannot_conclude_ends_alone(
    empty: Path, values: Callable[..., Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"m0": values(m0, **FEW), "m2": values(m2, kv_bits="8", **FEW)}
    session = open_session(given["m2"])
    grids = [planned(session, "m0", m0, given["m0"]), planned(session, "m2", m2, given["m2"])]
    failures = main._Failures(session.store, 2)

    def fails(*_: object) -> None:
        raise LatentWireError("no room for a table")

    object.__setattr__(grids[0], "and_then", fails)
    run_grids(grids, failures.survive)
    assert list(failures.errors) == ["m0"]
    ended = {run.info.run_name: run.info.status for run in level(session.store, "milestone")}
    assert ended == {"m0 demo": "FAILED", "m2 demo": "FINISHED"}


def test_where_the_pass_fails_each_is_done_by_itself(
    empty: Path, values: Callable[..., Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(values(main, m8_order="vnorm", **FEW))
    failures, alone = main._Failures(session.store, 3), []

    def fails(*_: object) -> None:
        raise LatentWireError("the workers died")

    monkeypatch.setattr("latentwire.session.grid.run_grids", fails)
    monkeypatch.setattr(main, "_run_step", lambda milestone, _: alone.append(milestone))
    main._run_together([m0, m2, m8], session, failures)
    assert alone == [m0, m2, m8] and not failures.errors
