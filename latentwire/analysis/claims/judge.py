"""Whether the answers support a claim, refute it, or leave it undecided."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from latentwire.analysis import unanswered
from latentwire.analysis.claims.claim import Claim, ClaimFile
from latentwire.analysis.curve import ConditionResult, merged, outcomes
from latentwire.analysis.donor_lengths import with_lengths
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE, spread
from latentwire.analysis.noninferiority import (
    Verdict,
    about,
    difference_interval,
    margin_test,
    required_sample_size,
)
from latentwire.analysis.paired_scores import Paired, PairedScores
from latentwire.analysis.seeds_and_questions import compare_seeds
from latentwire.analysis.stats import ALPHA, Interval, holm
from latentwire.analysis.trained_pairs import subject_of, without_seed
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.spec.axes import AXES
from latentwire.spec.condition import Condition


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
        and side.control == params.get("control")
        and (side.channel is None or side.channel.codec == params.get("codec"))
        for file in files
        for claim in file.claims
        for side in (claim.first, claim.second)
    )


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
        names = ", ".join(file.name for file in files)
        raise LatentWireError(
            f"the tracking store has no finished {source} answers that the claims of {names} are"
            " about: run m0, m2 or m3 first, or name another --source or --pair"
        )
    return reports


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
    every = [[_Sides.find(claim, results) for results in by_seed] for claim in claims]
    paired = [
        compare_seeds(
            [outcomes(one.first) for one in sides], [outcomes(one.second) for one in sides]
        )
        for sides in every
    ]
    found = [_Sides.together(sides) for sides in every]
    findings = [
        margin_test(outcome, claim.kind, claim.margin)
        for outcome, claim in zip(paired, claims, strict=True)
    ]
    adjusted = holm([finding.p for finding in findings])
    judgements = []
    for place, (claim, sides, outcome) in enumerate(zip(claims, found, paired, strict=True)):
        verdict = findings[place].verdict(adjusted[place])
        needed = required_sample_size(outcome, claim.kind, claim.margin)
        notes = list(sides.problems)
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
                examples_total=sides.examples_total,
                interval=difference_interval(outcome),
                p=findings[place].p,
                p_holm=adjusted[place],
                questions_needed=needed,
                notes=(*notes, *sides.degenerate),
            )
        )
    return judgements


@dataclass(frozen=True)
class _Sides:
    """The records of a claim's two conditions, and what is wrong with them, in sentences."""

    first: dict[str, Record]
    second: dict[str, Record]
    examples_total: int
    problems: tuple[str, ...]
    degenerate: tuple[str, ...]

    @classmethod
    def together(cls, seeds: Sequence["_Sides"]) -> "_Sides":
        """What is to be said of some seeds: each sentence once."""
        problems = dict.fromkeys(chain.from_iterable(one.problems for one in seeds))
        degenerate = dict.fromkeys(chain.from_iterable(one.degenerate for one in seeds))
        total = max(one.examples_total for one in seeds)
        return cls(seeds[0].first, seeds[0].second, total, tuple(problems), tuple(degenerate))

    @classmethod
    def find(cls, claim: Claim, results: Sequence[ConditionResult]) -> "_Sides":
        records: list[dict[str, Record]] = []
        problems, degenerate, totals = [], [], {0}
        sides = zip((claim.first, claim.second), claim.trained, claim.labels, strict=True)
        for side, training, label in dict.fromkeys(sides):
            parts = [
                result
                for result in results
                if result.dataset == claim.dataset
                and _is_of(result, side)
                and (not training or subject_of(result.pair, training))
            ]
            totals |= {part.examples_total for part in parts}
            if not parts:
                problems.append(f"There are no answers of {label}.")
            several = False
            for name in _MAY_BE_ANY:
                values = {getattr(part, name) for part in parts}
                if len(values) > 1:
                    several = True
                    known = ", ".join(sorted(map(str, values)))
                    problems.append(
                        f"{label} was run with {len(values)} {name}s: name one under"
                        f" '{name}' ({known})."
                    )
            found = {} if several else merged(f"{claim.dataset} {label}", parts)
            answers = spread(found.values())
            if answers.degenerate:
                degenerate.append(
                    f"{label} answers {answers.top_letter} to"
                    f" {100 * answers.top_letter_share:.0f} % of the questions"
                    f" (flagged: {DEGENERATE_NOTE})."
                )
            lost = unanswered.count(found.values())
            if lost:
                degenerate.append(f"{label}: {lost} questions could not be answered.")
            records.append(found)
        # What is compared with gets no blame for questions that it could not answer.
        records[-1] = unanswered.answered(with_lengths(*records))
        return cls(records[0], records[1], max(totals), tuple(problems), tuple(degenerate))


# Where a claim does not say which, any will do, as long as there is one.
_MAY_BE_ANY = ("calibration", "alignment", "control_calibration")


def _is_of(result: ConditionResult, side: Condition) -> bool:
    wanted = side.point
    return all(
        getattr(result, name) == getattr(wanted, name)
        for name, axis in AXES.items()
        if not axis.derived and (name not in _MAY_BE_ANY or getattr(wanted, name))
    )


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
