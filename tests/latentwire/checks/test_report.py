"""Checks one after the other: nothing that one does may keep the others from being made."""

import json

import pytest

from latentwire.checks.report import Check, CheckResult, CheckSkipped, CheckWarning, run_checks
from latentwire.errors import LatentWireError


def raising(error: Exception) -> Check:
    def look() -> str:
        raise error

    return Check(type(error).__name__, look, "mend it")


def test_a_check_that_breaks_is_a_check_that_fails() -> None:
    shown: list[CheckResult] = []
    report = run_checks(
        [
            raising(LatentWireError("no such pair")),
            raising(ZeroDivisionError("first line\nsecond")),
            raising(KeyError()),
            raising(CheckWarning("not sure")),
            raising(CheckSkipped("not asked")),
            Check("last", lambda: "fine", "mend it"),
        ],
        shown.append,
    )
    assert [(f.state, f.text) for f in report.findings] == [
        ("fail", "no such pair"),
        ("fail", "first line"),
        ("fail", "KeyError"),
        ("warn", "not sure"),
        ("skip", "not asked"),
        ("ok", "fine"),
    ]
    assert [f.mend for f in report.findings] == ["mend it"] * 4 + ["", ""]
    assert shown == list(report.findings)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_stops_it_stops_it(stop: type[BaseException]) -> None:
    def look() -> str:
        raise stop

    with pytest.raises(stop):
        run_checks([Check("x", look, "")])


def test_what_needs_a_failed_check_is_skipped_and_so_is_what_needs_that() -> None:
    report = run_checks(
        [
            raising(LatentWireError("gone")),
            Check("second", lambda: pytest.fail("was made"), "", needs=("LatentWireError",)),
            Check("third", lambda: pytest.fail("was made"), "", needs=("second", "unknown")),
            Check("fourth", lambda: "made", "", needs=("unknown",)),
        ]
    )
    assert [f.state for f in report.findings] == ["fail", "skip", "skip", "ok"]
    assert report.findings[1].text == "needs LatentWireError"
    assert report.findings[2].text == "needs second"


def test_a_doubt_keeps_nothing_back() -> None:
    report = run_checks(
        [raising(CheckWarning("hm")), Check("next", lambda: "made", "", needs=("Doubt",))]
    )
    assert report.findings[1].state == "ok"


def test_text_and_json_say_the_same() -> None:
    report = run_checks([raising(LatentWireError("gone")), Check("next", lambda: "made", "x")])
    lines = report.text().splitlines()
    assert lines[0].startswith("fail  LatentWireError  gone (")
    assert lines[1].strip() == "to mend: mend it"
    assert lines[2].startswith("ok    next ")
    content = json.loads(report.json())
    assert content["counts"] == {"ok": 1, "warn": 0, "fail": 1, "skip": 0}
    assert [check["text"] for check in content["checks"]] == ["gone", "made"]
    assert all(check["seconds"] >= 0 for check in content["checks"])
    assert report.findings[0].sentence == "LatentWireError: gone; to mend: mend it"
