"""Whether the answers support a claim, refute it, or leave it undecided."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from latentwire.analysis.claims.claim import Claim, ClaimFile
from latentwire.analysis.claims.sides import Sides, compared
from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.noninferiority import (
    Verdict,
    about,
    difference_interval,
    margin_test,
    required_sample_size,
)
from latentwire.analysis.paired_scores import Paired, PairedScores
from latentwire.analysis.stats import ALPHA, Interval, holm
from latentwire.analysis.trained_pairs import without_seed
from latentwire.controls.registry import MATCHED, is_lent
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Condition
from latentwire.suggestion import to_run


@dataclass(frozen=True)
class Judgement:
    """A claim with what the answers say about it. Differences and intervals are shares."""

    claim: Claim
    verdict: Verdict
    outcomes: Paired  # over the questions that both conditions have
    examples_total: int  # scored questions of the dataset; 0 where nothing is known of it
    interval: Interval  # of the tests that decide, 95 %, uncorrected
    p: float  # two-sided
    p_holm: float  # corrected over the file's claims
    questions_needed: int | None
    notes: tuple[str, ...]  # sentences: why it is undecided, what is odd about a condition


@dataclass(frozen=True)
class ClaimsReport:
    """A file's claims judged on one pair's answers."""

    file: str
    pair: str
    judgements: tuple[Judgement, ...]


def is_claimed(files: Sequence[ClaimFile], params: Mapping[str, str]) -> bool:
    """Whether a chunk run with these parameters may hold answers that some claim is about."""
    return any(
        file.subject(params.get("pair", "")) is not None
        and claim.dataset == params.get("dataset")
        and side.system == params.get("system")
        and params.get("control") in _controls_read(side)
        and (side.channel is None or side.channel.codec == params.get("codec"))
        for file in files
        for claim in file.claims
        for side in (claim.first, claim.second)
    )


def _controls_read(side: Condition) -> tuple[str, ...]:
    """Of which answers a side takes something: of a lent message, the own ones may tell how long
    it was."""
    return (side.control, MATCHED) if is_lent(side.control) else (side.control,)


def judge_files(
    files: Sequence[ClaimFile], results: Sequence[ConditionResult], source: str
) -> list[ClaimsReport]:
    """Judge each file on each pair that has answers on one of its datasets.

    `results` are the answers of one source and, of each pair, one identity. Raises
    LatentWireError when no claim of any file has an answer.
    """
    reports = []
    for file in files:
        datasets = {claim.dataset for claim in file.claims}
        subjects = {file.subject(result.pair) for result in results if result.dataset in datasets}
        own = {
            subject: [result for result in results if file.subject(result.pair) == subject]
            for subject in sorted(name for name in subjects if name is not None)
        }
        for subject, found in own.items():
            reports.append(ClaimsReport(file.name, subject, tuple(judge(file.claims, found))))
        for name, seeds in _of_several_seeds(own if file.trainings else ()).items():
            judged = judge_seeds(file.claims, [own[seed] for seed in seeds])
            reports.append(ClaimsReport(file.name, f"{name}, {len(seeds)} seeds", tuple(judged)))
    if not reports:
        raise LatentWireError(_nothing_claimed(files, source))
    return reports


def _nothing_claimed(files: Sequence[ClaimFile], source: str) -> str:
    names = ", ".join(file.name for file in files)
    pairs = sorted({file.pair for file in files if file.pair})
    of = f" of {', '.join(pairs)}" if len(pairs) == 1 else ""
    datasets = sorted({claim.dataset for file in files for claim in file.claims})
    return (
        f"the tracking store has no finished {source} answers{of} on"
        f" {', '.join(datasets)}, which the claims of {names} are about:"
        f" to have some, {to_run(source)};"
        " or name another --source or --pair, or write claims about what there is (docs/claims.md)"
    )


def _of_several_seeds(subjects: Iterable[str]) -> dict[str, list[str]]:
    """The pairs of which several seeds were trained, with the names of these."""
    found: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        if pair := without_seed(subject):
            found[pair].append(subject)
    return {pair: seeds for pair, seeds in found.items() if len(seeds) > 1}


def judge(claims: Sequence[Claim], results: Sequence[ConditionResult]) -> list[Judgement]:
    """Judge the claims of a file on one pair's answers."""
    return judge_seeds(claims, [results])


def judge_seeds(
    claims: Sequence[Claim], by_seed: Sequence[Sequence[ConditionResult]]
) -> list[Judgement]:
    """Judge the claims of a file on the answers of one pair, or of its trainings of several seeds:
    then they are about other seeds too (`seeds_and_questions`).

    p-values are corrected by Holm over all the claims: one without answers counts with p = 1, so
    that verdicts do not get stricter as answers come in.
    """
    found = [[Sides.find(claim, results) for results in by_seed] for claim in claims]
    paired = [compared(sides) for sides in found]
    findings = [
        margin_test(outcome, claim.kind, claim.margin)
        for outcome, claim in zip(paired, claims, strict=True)
    ]
    adjusted = holm([finding.p for finding in findings])
    judgements = []
    for place, (claim, sides, outcome) in enumerate(zip(claims, found, paired, strict=True)):
        verdict = findings[place].verdict(adjusted[place])
        needed = required_sample_size(outcome, claim.kind, claim.margin)
        # Of several seeds each sentence once.
        notes = list(dict.fromkeys(chain.from_iterable(one.problems for one in sides)))
        remarks = dict.fromkeys(chain.from_iterable(one.remarks for one in sides))
        if not notes and outcome.examples == 0:
            notes.append("The two conditions have no question in common.")
        elif not notes and verdict == "undecided":
            corrected = findings[place].p < ALPHA
            notes.append(_why_undecided(claim, outcome, needed, len(claims) if corrected else None))
        judgements.append(
            Judgement(
                claim=claim,
                verdict=verdict,
                outcomes=outcome,
                examples_total=max(one.examples_total for one in sides),
                interval=difference_interval(outcome),
                p=findings[place].p,
                p_holm=adjusted[place],
                questions_needed=needed,
                notes=(*notes, *remarks),
            )
        )
    return judgements


def _why_undecided(
    claim: Claim, outcome: Paired, needed: int | None, corrected_over: int | None
) -> str:
    """Why the data cannot decide, in words; `corrected_over` where they could for it alone."""
    n, margin = outcome.examples, f"{claim.margin_points:g}-point margin"
    if corrected_over is not None:
        return f"Decided alone, but not once corrected for {corrected_over} claims (Holm)."
    if claim.kind == "superior":
        if needed is None:
            beyond = f" beyond {claim.margin_points:g} points" if claim.margin_points else ""
            return f"No advantage{beyond} is observed, and no disadvantage is shown."
        if needed <= n:
            test = "permutation" if isinstance(outcome, PairedScores) else "exact"
            return f"{n} questions are too few for the {test} test."
        return (
            f"{n} questions cannot show a difference as small as the one observed;"
            f" about {about(needed)} would."
        )
    assert needed is not None
    if needed > n:
        return (
            f"{n} questions cannot show a {margin}; about {about(needed)} would,"
            f" were both equally accurate."
        )
    return (
        f"{n} questions could show a {margin}, were both equally accurate;"
        f" the observed difference is too near it."
    )
