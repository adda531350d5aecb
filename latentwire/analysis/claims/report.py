"""Judged claims as text for the terminal, at most 100 columns wide, and as JSON values."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from latentwire.analysis.claims.claim import Claim
from latentwire.analysis.claims.judge import ClaimsReport, Judgement
from latentwire.analysis.formatting import p_value
from latentwire.analysis.frames import published_note
from latentwire.analysis.stats import Interval, PairedOutcomes
from latentwire.spec.axes import or_none
from latentwire.tasks.registry import task_of_records
from latentwire.tasks.task import Task

WIDTH = 100
INDENT = " " * 4
KINDS = {"superior": "superior", "non_inferior": "non-inferior", "equivalent": "equivalent"}


def render(reports: Sequence[ClaimsReport], source: str) -> str:
    """Every claim with its verdict and numbers, file by file and pair by pair; then the count."""
    lines: list[str] = []
    for report in reports:
        lines += [f"{report.file}, {report.pair}{published_note(source)}", ""]
        for judgement in report.judgements:
            lines += [*_lines(judgement, len(report.judgements)), ""]
    counted = Counter(each.verdict for report in reports for each in report.judgements)
    verdicts = ", ".join(f"{counted[name]} {name}" for name in ("supported", "refuted"))
    lines.append(f"{counted.total()} claims: {verdicts}, {counted['undecided']} undecided")
    return "\n".join(lines) + "\n"


def as_json(reports: Sequence[ClaimsReport], source: str) -> list[dict[str, Any]]:
    """The same as values of strict JSON, an object a file and pair: differences and intervals are
    shares from -1 to 1; null for what no answer tells."""
    return [
        {
            "file": report.file,
            "pair": report.pair,
            "source": source,
            "claims": [_values(judgement) for judgement in report.judgements],
        }
        for report in reports
    ]


def _values(judgement: Judgement) -> dict[str, Any]:
    claim, outcomes = judgement.claim, judgement.outcomes
    numbers = {
        "difference": outcomes.difference,
        "difference_low": judgement.interval.low,
        "difference_high": judgement.interval.high,
        "only_first": outcomes.only_first,
        "only_second": outcomes.only_second,
        "p": judgement.p,
        "p_holm": judgement.p_holm,
        "questions_needed": judgement.questions_needed,
    }
    return {
        "text": claim.text,
        "verdict": judgement.verdict,
        "dataset": claim.dataset,
        "metric": task_of_records(claim.dataset).metric,
        "kind": claim.kind,
        "margin": claim.margin,
        "first": claim.labels[0],
        "second": claim.labels[1],
        "examples": outcomes.examples,
        "examples_total": judgement.examples_total,
        **{name: or_none(value) if outcomes.examples else None for name, value in numbers.items()},
        "notes": list(judgement.notes),
    }


def _lines(judgement: Judgement, family: int) -> list[str]:
    title = _wrapped(f"{judgement.verdict.upper():<9}  {judgement.claim.text}", "")
    return [*title, *(line for text in _texts(judgement, family) for line in _wrapped(text))]


def _texts(judgement: Judgement, family: int) -> list[str]:
    claim, outcomes = judgement.claim, judgement.outcomes
    metric = task_of_records(claim.dataset).metric
    by = "" if metric == Task.metric else f", {metric}"
    texts = [f"{claim.dataset}{by}: {' - '.join(claim.labels)}, {_stated(claim)}"]
    if outcomes.examples:
        counted = isinstance(outcomes, PairedOutcomes)
        better = "only the first right" if counted else "only the first better"
        texts += [
            f"n {outcomes.examples} of {judgement.examples_total},"
            f" difference {100 * outcomes.difference:+.2f} points,"
            f" 95 % {_interval(judgement.interval)}",
            f"{better} {outcomes.only_first}, only the second {outcomes.only_second};"
            f" p {p_value(judgement.p)}, Holm over {family}: {p_value(judgement.p_holm)}",
        ]
    return [*texts, *judgement.notes]


def _stated(claim: Claim) -> str:
    """The kind with its margin: "non-inferior within 1 point"."""
    if not claim.margin_points:
        return KINDS[claim.kind]
    unit = "point" if claim.margin_points == 1 else "points"
    word = "by more than" if claim.kind == "superior" else "within"
    return f"{KINDS[claim.kind]} {word} {claim.margin_points:g} {unit}"


def _wrapped(text: str, indent: str = INDENT) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=INDENT)


def _interval(interval: Interval) -> str:
    return f"[{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"
