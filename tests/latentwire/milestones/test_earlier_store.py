"""What an earlier version has computed still serves: nothing of it is computed again.

`tests/stores` holds what version 0.1.0 at commit 963a8a9 wrote: fingerprints of every kind of
condition, a store (`store.tar.xz`, of a project in /srv/latentwire, without its pictures) and an
export of another (`study.zip`); in both, the first 8 questions of demo_graded. They are never made
again: a version that finds nothing in them makes its users compute everything anew.
"""

import csv
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from in_process import run_milestone

from latentwire import cli
from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.published import PublishedCondition
from latentwire.milestones import baselines, m0, m2, m3, publishing
from latentwire.parameters import Values
from latentwire.session import computing
from latentwire.session.condition_plan import make_plans
from latentwire.session.preflight_state import open_session
from latentwire.session.session import Session
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.spec.setting import Setting
from latentwire.tracking.results_reader import chunks_from, newest
from latentwire.tracking.store import open_store

STORES = Path(__file__).parents[2] / "stores"
SETTING = Setting(
    pair="tiny",
    pair_identity="ab" * 32,
    dataset="openbookqa",
    dataset_hash="cd" * 32,
    prompt_version=1,
    dtype="float32",
    seed=42,
)
LIKE_STUDIED = {
    "kv_bits": 4,
    "limit": 6,
    "chunk_size": 4,
    "dataset": "demo_facts",
    "preflight": "skip",
}
ASKED = {"dataset": "demo_graded", "limit": 8, "preflight": "skip"}
FINISHED: list[tuple[ModuleType, dict[str, object]]] = [
    (m0, {"chunk_size": 5}),
    (m3, {"keep_ratio": 0.5}),
]
FINISHED_BESIDES: list[tuple[ModuleType, dict[str, object]]] = [
    (m0, {"chunk_size": 3}),
    (m2, {"codec": "int4,turbo2,bf16+zstd,int4/last2:bf16"}),
]


def earlier_fingerprints() -> list[tuple[Condition, str]]:
    with (STORES / "fingerprints.csv").open(newline="") as file:
        return [(condition_of(row), row["fingerprint"]) for row in csv.DictReader(file)]


def condition_of(row: dict[str, str]) -> Condition:
    system, codec, control = row["system"], row["codec"], row["control"]
    if system == "c2c":
        calibration = "" if row["calibration"] == "none" else row["calibration"]
        channel = Channel(codec, float(row["keep_ratio"]), row["order"], calibration)
        return Condition(system, channel, control)
    message = Message(codec, int(row["message_tokens"])) if system == "text" else None
    return Condition(system, None, control, message)


def test_every_kind_of_condition_keeps_its_fingerprint() -> None:
    wrong = {
        condition.label: fingerprint
        for condition, fingerprint in earlier_fingerprints()
        if SETTING.condition_fingerprint(condition) != fingerprint
    }
    assert len(earlier_fingerprints()) == 70
    assert wrong == {}
    assert SETTING.identity().startswith("29cd49706b2b94ab")
    chunk = SETTING.chunk_fingerprint(Condition("receiver"), 0, 200)
    assert chunk.startswith("2aa6e4b98d2e434d")


def test_published_answers_keep_their_fingerprint() -> None:
    result = ConditionResult(
        pair="demo",
        dataset="arc_c",
        system="c2c",
        codec="int8",
        kv_bits=8,
        keep_ratio=0.5,
        order="back",
        control="matched",
        source="published",
        examples_total=1150,
        records=(),
        seconds=1.0,
    )
    fingerprint = publishing._fingerprint("ab" * 32, PublishedCondition("M3", result))
    assert fingerprint.startswith("c451d44a19b2422a")


@pytest.fixture
def computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(*_: object) -> None:
        raise AssertionError("an answer that the store holds is computed again")

    monkeypatch.setattr(computing.Evaluator, "__call__", compute)


def unpack(folder: Path) -> None:
    """The earlier store, as it would be had its project always been here."""
    with tarfile.open(STORES / "store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with sqlite3.connect(folder / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, '/srv/latentwire', ?)",
                [str(folder)],
            )


def all_finished(printed: str) -> bool:
    """Whether each dry run that was printed has nothing to do."""
    plans = [line for line in printed.splitlines() if line.startswith("  to do:")]
    return bool(plans) and set(plans) == {"  to do: 0 chunks, 0 answers"}


@pytest.mark.usefixtures("computes_nothing")
def test_a_store_made_before_serves(
    empty: Path, values: Callable[..., dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(empty)
    for milestone, given in (*FINISHED, *FINISHED_BESIDES):
        run_milestone(milestone, values(milestone, **ASKED, **given, dry_run=True))
    assert all_finished(capsys.readouterr().out)
    run_milestone(baselines, values(baselines, **ASKED, message_tokens=8, dry_run=True))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    told = [line for line in lines if "demo_" in line]
    assert len(told) > 4
    for line in told:  # LM-coded texts came later
        assert line.endswith("finished") != ("text lm" in line), line
    run_milestone(m3, values(m3, **ASKED, keep_ratio=0.5))  # which reads the answers
    assert " int8 " in capsys.readouterr().out


def test_an_export_made_before_serves(
    empty: Path, values: Callable[..., dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["import", str(STORES / "study.zip")]) == 0
    for milestone, given in FINISHED:
        run_milestone(milestone, values(milestone, **ASKED, **given, dry_run=True))
    assert all_finished(capsys.readouterr().out)


def test_other_seeds_share_all_but_deranged_answers(
    folder: Path, values: Callable[..., Values]
) -> None:
    def missing(**given: object) -> dict[str, int]:
        session = open_session(values(m2, **LIKE_STUDIED, **given))
        plans = make_plans(session, m2.conditions(session.values))
        return {plan.condition.control: plan.examples_missing for plan in plans}

    assert missing() == {"matched": 0, "deranged": 0}
    assert missing(seed=8) == {"matched": 0, "deranged": 6}


def test_a_store_from_when_the_seed_was_in_every_fingerprint_goes_on(
    empty: Path, values: Callable[..., Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = LIKE_STUDIED | {"limit": 4, "seed": 8}
    usual = Session.setting
    with monkeypatch.context() as patch:
        patch.setattr(Session, "setting", lambda self, name: usual(self, name).before())
        run_milestone(m2, values(m2, **given))
    run_milestone(m2, values(m2, **given | {"limit": 6}))
    chunks = chunks_from(open_store(), "local", "demo")
    assert newest(chunks) == chunks  # one identity, one seed
    assert sum(run.data.metrics["examples"] for run in chunks) == 2 * 6
