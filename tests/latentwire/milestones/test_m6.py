"""M6 searches once: what was found stays, whatever else is asked of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from in_process import run_milestone
from tests_support import empty_store, runs_of, table_of

from latentwire.milestones import m6, scheduling
from latentwire.parameters import Values

GIVEN = {
    "dataset": "demo_facts",
    "limit": 2,
    "chunk_size": 2,
    "codec": "int3",
    "controls": "matched",
    "calibration_examples": 6,
    "searched_bits": "3",
}


def found() -> dict[str, Any]:
    """What the last search has kept."""
    run = runs_of("m6_search")[0]
    path = Path(run.info.artifact_uri.removeprefix("file://")) / scheduling.SEARCH.file
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_schedules_are_searched_once(
    empty: Path, values, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_store(empty)
    run_milestone(m6, values(m6, **GIVEN, dry_run="true"))
    assert "schedules are not searched yet" in capsys.readouterr().out
    run_milestone(m6, values(m6, **GIVEN))
    first = capsys.readouterr().out
    (said,) = [line for line in first.splitlines() if "searched for 3 bits" in line]
    by_answer = found()
    _other_objective(values, capsys, by_answer)
    for name in ("by_answer", "by_distortion"):
        monkeypatch.setattr(scheduling, name, None)  # neither is asked again
    run_milestone(m6, values(m6, **GIVEN | {"limit": 1, "chunk_size": 1}))
    second = capsys.readouterr().out
    assert "searched for" not in second
    assert said.rpartition(" ")[2] in {*table_of("m6", "conditions.csv")["codec"]}


def _other_objective(values, capsys: pytest.CaptureFixture[str], by_answer: dict[str, Any]) -> None:
    """Both are kept side by side, each with what it was found by."""
    given: Values = values(m6, **GIVEN, searched_by="distortion")
    run_milestone(m6, given)
    assert "searched for 3 bits" in capsys.readouterr().out
    by_distortion = found()
    assert by_answer["questions"] == by_answer["held_out_questions"] == 3
    assert by_distortion["questions"] == 6 and "held_out" not in by_distortion
    assert by_answer["costs"]["2"].keys() == by_distortion["costs"]["2"].keys()
    tried = by_answer["held_out"]["3"]
    assert "int3" in tried and tried[by_answer["schedules"]["3"]] == min(tried.values())
    assert all(by_answer["costs"]["2"][tensor] > 0 for tensor in ("keys5", "values4", "values5"))
