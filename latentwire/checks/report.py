"""Checks one after the other: what each found, and the report of all.

A check is a function that returns what it found, in a sentence's words. It raises `CheckWarning`
for a finding that does not stop a run, `CheckSkipped` where there is nothing to look at, and
anything else for what stops a run: a check that breaks is a check that fails, and those after it
still run.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from latentwire.errors import as_sentence

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


class CheckWarning(Exception):
    """A finding that does not stop a run."""


class CheckSkipped(Exception):
    """A check that is not made; the text says why."""


@dataclass(frozen=True)
class Check:
    """One check. `needs` names those before it without which it cannot be made."""

    title: str
    run: Callable[[], str]
    fix: str  # what to do where it warns or fails
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """What a check found."""

    title: str
    state: str  # ok, warn, fail or skip
    text: str
    mend: str  # "" where there is nothing to mend
    seconds: float

    def render(self) -> str:
        """One line, and a second with the way to mend it where there is something to mend."""
        line = f"{self.state:<4}  {self.title:<16} {self.text} ({self.seconds:.1f} s)"
        return f"{line}\n      {'':<16} to mend: {self.mend}" if self.mend else line

    @property
    def sentence(self) -> str:
        """The finding and the way to mend it, in one line."""
        return f"{self.title}: {self.text}" + (f"; to mend: {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class CheckReport:
    """The findings of some checks, in order."""

    findings: tuple[CheckResult, ...]

    def of(self, state: str) -> list[CheckResult]:
        return [finding for finding in self.findings if finding.state == state]

    def followed_by(self, later: "CheckReport") -> "CheckReport":
        """Both; what `later` found of a check that both made counts."""
        together = {finding.title: finding for finding in (*self.findings, *later.findings)}
        return CheckReport(tuple(together.values()))

    @property
    def seconds(self) -> float:
        return sum(finding.seconds for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        return {state: len(self.of(state)) for state in (OK, WARN, FAIL, SKIP)}

    def text(self) -> str:
        return "".join(finding.render() + "\n" for finding in self.findings)

    def json(self) -> str:
        content = {"counts": self.counts, "checks": [asdict(f) for f in self.findings]}
        return json.dumps(content, indent=2) + "\n"


def run_checks(
    checks: Iterable[Check],
    show: Callable[[CheckResult], object] = lambda finding: None,
    known: CheckReport = CheckReport(()),
) -> CheckReport:
    """Make the checks in order, showing each finding as soon as it is there.

    A check that needs one which failed or was skipped, here or in what is `known` from before, is
    skipped, with the reason.
    """
    before = {finding.title: finding for finding in known.findings}
    findings: dict[str, CheckResult] = {}
    for check in checks:
        began = time.perf_counter()
        seen = before | findings
        missing = [n for n in check.needs if n in seen and seen[n].state in (FAIL, SKIP)]
        if missing:
            state, text = SKIP, f"needs {' and '.join(missing)}"
        else:
            state, text = _run(check)
        mend = check.fix if state in (WARN, FAIL) else ""
        finding = CheckResult(check.title, state, text, mend, time.perf_counter() - began)
        findings[check.title] = finding
        show(finding)
    return CheckReport(tuple(findings.values()))


def _run(check: Check) -> tuple[str, str]:
    try:
        return OK, as_sentence(check.run())
    except CheckWarning as doubt:
        return WARN, as_sentence(str(doubt))
    except CheckSkipped as reason:
        return SKIP, as_sentence(str(reason))
    except Exception as error:  # whatever it is, the report goes on
        # A library's message may go on for pages; its first line says what is wrong.
        return FAIL, as_sentence((str(error).strip().splitlines() or [type(error).__name__])[0])
