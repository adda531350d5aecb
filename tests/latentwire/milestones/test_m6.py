"""M6 searches once: what was found stays, whatever else is asked of it."""

from pathlib import Path

import pytest
from in_process import run_milestone
from tests_support import empty_store

from latentwire.milestones import m6, scheduling

GIVEN = {
    "dataset": "demo_facts",
    "limit": 2,
    "chunk_size": 2,
    "codec": "int3",
    "controls": "matched",
    "calibration_examples": 3,
    "searched_bits": "3",
}


def test_schedules_are_searched_once(
    empty: Path, values, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_store(empty)
    run_milestone(m6, values(m6, **GIVEN, dry_run="true"))
    assert "schedules are not searched yet" in capsys.readouterr().out
    run_milestone(m6, values(m6, **GIVEN))
    first = capsys.readouterr().out
    (said,) = [line for line in first.splitlines() if "searched for 3 bits" in line]
    monkeypatch.setattr(scheduling, "losses", None)  # it is not asked again
    run_milestone(m6, values(m6, **GIVEN | {"limit": 1, "chunk_size": 1}))
    second = capsys.readouterr().out
    assert "searched for" not in second
    assert said.rpartition(" ")[2] in second
