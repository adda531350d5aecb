"""The answers of a claim's two conditions, and what is missing or odd about them, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from latentwire.analysis import unanswered
from latentwire.analysis.claims.claim import Claim
from latentwire.analysis.curve import ConditionResult, lent_of, merged, outcomes
from latentwire.analysis.donors import Answers
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE, spread
from latentwire.analysis.paired_scores import (
    Paired,
    PairedScores,
    compare,
    compare_with_donors,
    mean_over_donors,
)
from latentwire.analysis.seeds_and_questions import compare_seeds
from latentwire.analysis.stats import Outcomes, cluster_of, scored
from latentwire.analysis.trained_pairs import subject_of
from latentwire.controls.registry import DERANGED, MATCHED, is_lent
from latentwire.evaluation.record import Record
from latentwire.spec.axes import AXES, NONE
from latentwire.spec.condition import Condition

# Where a claim does not say which, any will do, as long as there is one.
_MAY_BE_ANY = ("calibration", "alignment", "control_calibration")
_NO_CLAIMS_AXES = ("donor",)  # a claim is about all donors that there are


@dataclass(frozen=True)
class Side:
    """One condition's answers: one set of them, or one a donor."""

    answers: Sequence[Answers] = ()
    examples_total: int = 0
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def outcomes(self, blamed: bool) -> list[Outcomes]:
        """The scores that are compared; with those of questions that it could not answer only
        where it is `blamed` for them."""
        counted = self.answers if blamed else map(unanswered.answered, self.answers)
        return [outcomes(each) for each in counted]


@dataclass(frozen=True)
class Sides:
    """Both conditions of a claim, as they are compared."""

    first: Sequence[Outcomes]  # one, or one a donor where other questions' messages were sent
    second: Sequence[Outcomes]
    alike: bool  # whether they are one condition's, with its own messages and with others'
    examples_total: int  # scored questions of the dataset; 0 where nothing is known of it
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @classmethod
    def find(cls, claim: Claim, results: Sequence[ConditionResult]) -> "Sides":
        """A claim's conditions among results of one source and subject."""
        of_set = [result for result in results if result.dataset == claim.dataset]
        sides = zip((claim.first, claim.second), claim.trained, claim.labels, strict=True)
        first, second = (_side(*side, of_set) for side in sides)
        # What is compared with, and a control, get no blame for questions that they could not
        # answer, nor for messages that were brought to another length.
        blamed = claim.first.control in (MATCHED, NONE)
        same = claim.first.point.place == claim.second.point.place
        return cls(
            first.outcomes(blamed),
            second.outcomes(False),
            same
            and claim.trained[0] == claim.trained[1]
            and {claim.first.control, claim.second.control} == {MATCHED, DERANGED},
            max(first.examples_total, second.examples_total),
            (*first.problems, *second.problems),
            (*first.remarks, *second.remarks),
        )


def compared(seeds: Sequence[Sides]) -> Paired:
    """The two conditions on the questions that both have: of one pair, or of trainings of several
    seeds. Over several donors, as in a budget curve: own messages by the ranks of their scores
    among the donors', all else by its difference from the donors' mean."""
    if len(seeds) > 1:
        return compare_seeds(
            [mean_over_donors(one.first) for one in seeds],
            [mean_over_donors(one.second) for one in seeds],
        )
    (one,) = seeds
    if one.alike and len(one.first) == 1:
        return compare_with_donors(one.first[0], one.second)
    if one.alike and len(one.second) == 1:
        return _turned(compare_with_donors(one.second[0], one.first))
    return compare(mean_over_donors(one.first), mean_over_donors(one.second))


def _turned(found: Paired) -> Paired:
    """The same comparison, its sides changed about."""
    assert isinstance(found, PairedScores)
    turned = {n: scored(-float(d), cluster_of(d)) for n, d in found.differences.items()}
    return PairedScores(turned, found.exact_p)


def _side(
    condition: Condition, training: str, label: str, results: Sequence[ConditionResult]
) -> Side:
    parts = [
        result
        for result in results
        if _is_of(result, condition) and (not training or subject_of(result.pair, training))
    ]
    total = max((part.examples_total for part in parts), default=0)
    problems = tuple(_problems(label, parts))
    if problems:
        return Side((), total, problems)
    answers = _answers(condition, label, parts, results)
    every = list(chain.from_iterable(each.values() for each in answers))
    return Side(answers, total, (), tuple(_remarks(label, every, len(answers))))


def _problems(label: str, parts: Sequence[ConditionResult]) -> list[str]:
    if not parts:
        return [f"There are no answers of {label}."]
    found = []
    for name in _MAY_BE_ANY:
        values = {getattr(part, name) for part in parts}
        if len(values) > 1:
            known = ", ".join(sorted(map(str, values)))
            found.append(
                f"{label} was run with {len(values)} {name}s: name one under '{name}' ({known})."
            )
    return found


def _answers(
    condition: Condition,
    label: str,
    parts: Sequence[ConditionResult],
    results: Sequence[ConditionResult],
) -> Sequence[Answers]:
    if not is_lent(condition.control):
        return [merged(f"{parts[0].dataset} {label}", parts)]
    here = (*parts[0].family, *parts[0].place)
    own = [r for r in results if r.control == MATCHED and (*r.family, *r.place) == here]
    return lent_of(parts, merged(f"{parts[0].dataset} {label}", own)).by_donor


def _remarks(label: str, every: Sequence[Record], donors: int) -> list[str]:
    found, answers = [], spread(every)
    if donors > 1:
        found.append(f"{label}: the mean over {donors} donors.")
    if answers.degenerate:
        found.append(
            f"{label} answers {answers.top_letter} to"
            f" {100 * answers.top_letter_share:.0f} % of the questions"
            f" (flagged: {DEGENERATE_NOTE})."
        )
    if lost := unanswered.count(every):
        found.append(f"{label}: {lost} questions could not be answered.")
    return found


def _is_of(result: ConditionResult, side: Condition) -> bool:
    wanted = side.point
    return all(
        getattr(result, name) == getattr(wanted, name)
        for name, axis in AXES.items()
        if not axis.derived
        and name not in _NO_CLAIMS_AXES
        and (name not in _MAY_BE_ANY or getattr(wanted, name))
    )
