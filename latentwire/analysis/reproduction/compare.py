"""Do answers reproduce a study's figures? Condition by condition, and as a whole.

The same questions were asked, so on a complete set an accuracy has no sampling error of its own:
what is tested is whether another run of the same system would differ by so much. With the study's
answers at hand the two are compared question by question: accuracies, agreement, letters. With its
figures alone only accuracies can be compared, as if the questions were others, which is
conservative (a difference that is called one is one) and blind to which answers are right.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from latentwire.analysis.noninferiority import difference_interval
from latentwire.analysis.reproduction.agreement import Agreement, agreement
from latentwire.analysis.reproduction.published_accuracies import (
    Point,
    PublishedAccuracy,
    PublishedStudy,
)
from latentwire.analysis.reproduction.sent import Sent, sent
from latentwire.analysis.stats import ALPHA, Interval, holm, mcnemar_p, paired_outcomes
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.parameters import DEFAULT_TOLERANCE_POINTS

_ROUNDED = 0.0005 + 1e-9  # accuracies were published with three decimals
Answers = Mapping[int, Record]  # by row of the question set
Verdict = Literal["reproduced", "differs", "undecided", "not run"]


@dataclass(frozen=True)
class Tested:
    """What the tests of one condition say, each for itself. NaN and None where it was not run."""

    difference: float  # own accuracy - published
    interval: Interval  # of the difference
    p: float  # of "no difference", uncorrected
    agreement: Agreement | None  # with the study's answers; None: not known


@dataclass(frozen=True)
class Compared(Tested):
    """One condition beside its published figure. p-values are NaN where it was not run, or where
    the study's answers are not known; corrected ones are so over all tests of all conditions."""

    figure: PublishedAccuracy
    answers: Answers
    p_holm: float
    agreement_p_holm: float
    letters_p_holm: float
    sent: Sent
    verdict: Verdict

    @property
    def accuracy(self) -> float:
        return _accuracy(self.answers) if self.answers else float("nan")


@dataclass(frozen=True)
class Reproduction:
    """All conditions of a study, and whether they were reproduced together."""

    rows: tuple[Compared, ...]
    paired: bool  # whether the study's own answers were at hand: else accuracies alone are judged
    tolerance: float  # a share
    mean_difference: float  # over the conditions, each counting once
    mean_interval: Interval
    p: float  # of "nowhere a difference, and none on average"
    verdict: Verdict


def compare(
    study: PublishedStudy,
    own: Mapping[Point, Answers],
    published: Mapping[Point, Answers] | None = None,
    tolerance_points: float = DEFAULT_TOLERANCE_POINTS,
) -> Reproduction:
    """Compare answers with a study's figures and, where they are known, with its answers.

    A condition differs where a Holm-corrected p is below 0.05: of equal accuracies and, with the
    study's answers, of agreement at the run-to-run rate and of equally frequent letters. It is
    reproduced where it does not, all questions were answered and the difference is within the
    tolerance; else it is undecided. It differs too where its packets are not of its bits or its
    share of tokens (`sent`). The whole differs where the overall p is below 0.05 or such a packet
    was found, and is reproduced where it does not and every condition is.

    Raises LatentWireError where own and published answers have other keys: other questions; and
    where the published ones do not give the study's figures: they are then of something else, or
    not all there.
    """
    known = published or {}
    _require_of_study(study, known)
    run = [figure for figure in study.figures if own.get(figure.point)]
    for figure in run:
        _require_same_keys(figure, own[figure.point], known.get(figure.point, {}))
    tested = _paired(run, own, known) if published else _unpaired(run, own)
    p_holm = _corrected(tested)
    whole_caches = _whole_caches(study, own)
    rows = tuple(
        _compared(
            figure,
            own[figure.point],
            tested[figure.point],
            p_holm,
            sent(figure, own[figure.point], whole_caches.get(figure.dataset, {})),
            tolerance_points / 100,
        )
        if figure.point in tested
        else _not_run(figure)
        for figure in study.figures
    )
    mean, interval, p_mean = _mean_difference(rows, known, paired=bool(published))
    # Two looks, one at each condition and one at their mean; Bonferroni holds whatever ties them.
    p = min(1.0, 2 * min([p_mean, *p_holm.values()])) if p_holm else 1.0
    whole: Verdict = "undecided"
    if p < ALPHA or not all(row.sent.as_named for row in rows):
        whole = "differs"
    elif all(row.verdict == "reproduced" for row in rows):
        whole = "reproduced"
    elif all(row.verdict == "not run" for row in rows):
        whole = "not run"
    return Reproduction(rows, bool(published), tolerance_points / 100, mean, interval, p, whole)


def _whole_caches(study: PublishedStudy, own: Mapping[Point, Answers]) -> dict[str, Answers]:
    """Of each question set answers to the whole cache, under the codec that sent most numbers."""
    found = [f for f in study.figures if f.keep_ratio == 1 and own.get(f.point)]
    found.sort(key=lambda f: sum(record.elements for record in own[f.point].values()))
    return {figure.dataset: own[figure.point] for figure in found}


def _corrected(tested: Mapping[Point, Tested]) -> dict[tuple[Point, str], float]:
    """Holm's correction over every test of every condition."""
    alone: dict[tuple[Point, str], float] = {}
    for point, each in tested.items():
        alone[point, "accuracy"] = each.p
        if each.agreement is not None:
            alone[point, "agreement"] = each.agreement.p
            alone[point, "letters"] = each.agreement.letters_p
    return dict(zip(alone, holm(list(alone.values())), strict=True))


def _compared(
    figure: PublishedAccuracy,
    answers: Answers,
    tested: Tested,
    p_holm: Mapping[tuple[Point, str], float],
    found: Sent,
    tolerance: float,
) -> Compared:
    accuracy_p, agreement_p, letters_p = (
        p_holm.get((figure.point, name), float("nan"))
        for name in ("accuracy", "agreement", "letters")
    )
    compared = len(answers) if tested.agreement is None else tested.agreement.questions
    verdict: Verdict = "undecided"
    if any(p < ALPHA for p in (accuracy_p, agreement_p, letters_p)) or not found.as_named:
        verdict = "differs"
    elif compared == figure.questions and abs(tested.difference) <= tolerance:
        verdict = "reproduced"
    own = (tested.difference, tested.interval, tested.p, tested.agreement)
    return Compared(*own, figure, answers, accuracy_p, agreement_p, letters_p, found, verdict)


def _not_run(figure: PublishedAccuracy) -> Compared:
    nan = float("nan")
    nothing = Sent(nan, nan, True)
    return Compared(
        nan, Interval(nan, nan), nan, None, figure, {}, nan, nan, nan, nothing, "not run"
    )


def _paired(
    figures: Sequence[PublishedAccuracy],
    own: Mapping[Point, Answers],
    published: Mapping[Point, Answers],
) -> dict[Point, Tested]:
    """Question by question: exact McNemar and the interval that goes with it, and the letters."""
    missing = [figure.point for figure in figures if not published.get(figure.point)]
    if missing:
        raise LatentWireError(f"the published answers lack the condition {missing[0]}")
    found = {}
    for point in (figure.point for figure in figures):
        pair = paired_outcomes(_outcomes(own[point]), _outcomes(published[point]))
        agreed = agreement(own[point], published[point])
        interval = difference_interval(pair)
        found[point] = Tested(pair.difference, interval, mcnemar_p(pair), agreed)
    return found


def _unpaired(
    figures: Sequence[PublishedAccuracy], own: Mapping[Point, Answers]
) -> dict[Point, Tested]:
    """As two samples of questions, a right and a wrong answer added to each, so that shares of 0
    and 1 have a variance (A. Agresti and B. Caffo, The American Statistician 54, 2000; by
    statsmodels)."""
    found = {}
    for figure in figures:
        answers = own[figure.point]
        correct, there = sum(r.correct for r in answers.values()), _published_correct(figure)
        counts = (correct, len(answers), there, figure.questions)
        with np.errstate(all="ignore"):  # of a ratio that is computed beside it
            p = test_proportions_2indep(*counts, compare="diff", method="agresti-caffo").pvalue
            low, high = confint_proportions_2indep(
                *counts, compare="diff", method="agresti-caffo", alpha=ALPHA
            )
        difference = correct / len(answers) - figure.accuracy
        interval = Interval(float(low), float(high))
        found[figure.point] = Tested(difference, interval, float(p), None)
    return found


def _mean_difference(
    rows: Sequence[Compared], published: Mapping[Point, Answers], *, paired: bool
) -> tuple[float, Interval, float]:
    """Mean over conditions of the difference, its interval and p by a z-test.

    The variance is that of the questions' sums over conditions (a question is a cluster); with
    figures alone that of the own answers counts twice, for the published ones have as much. Two
    questions are added to each condition, one that is right here alone and one that is right there
    alone (D. Bonett and R. Price, Journal of Educational and Behavioral Statistics 37, 2012; with
    figures alone a right and a wrong one, as Agresti and Caffo do): equal answers to a number of
    questions are no proof of equality, and an interval without width would say so.
    """
    run = [row for row in rows if not math.isnan(row.difference)]
    if not run:
        nan = float("nan")
        return nan, Interval(nan, nan), 1.0
    added = (1.0, -1.0) if paired else (1.0, 0.0)
    sums: dict[tuple[str, int], float] = defaultdict(float)
    middle = variance = 0.0
    for row in run:
        values = {index: float(record.correct) for index, record in row.answers.items()}
        if paired:
            there = published[row.figure.point]
            values = {i: value - there[i].correct for i, value in values.items() if i in there}
        weight = 1 / ((len(values) + len(added)) * len(run))
        mean = (math.fsum(values.values()) + sum(added)) * weight * len(run)
        for index, value in values.items():
            sums[row.figure.dataset, index] += (value - mean) * weight
        variance += math.fsum(((value - mean) * weight) ** 2 for value in added)
        if not paired:
            mean -= (_published_correct(row.figure) + 1) / (row.figure.questions + 2)
        middle += mean / len(run)
    variance = (variance + math.fsum(value**2 for value in sums.values())) * (1 if paired else 2)
    deviation = math.sqrt(variance)
    reach = float(norm.isf(ALPHA / 2)) * deviation
    interval = Interval(middle - reach, middle + reach)
    observed = math.fsum(row.difference for row in run) / len(run)
    return observed, interval, float(2 * norm.sf(abs(middle) / deviation))


def _published_correct(figure: PublishedAccuracy) -> int:
    """How many questions a rounded accuracy stands for."""
    return round(figure.accuracy * figure.questions)


def _require_of_study(study: PublishedStudy, published: Mapping[Point, Answers]) -> None:
    for figure in study.figures:
        if answers := published.get(figure.point):
            accuracy, said = _accuracy(answers), f"{100 * figure.accuracy:.1f} %"
            if len(answers) == figure.questions and abs(accuracy - figure.accuracy) <= _ROUNDED:
                continue
            raise LatentWireError(
                f"the published answers of {', '.join(map(str, figure.point))} are not the"
                f" study's: {100 * accuracy:.1f} % of {len(answers)} are right, and {said} of"
                f" {figure.questions} were published; take the study's own file"
            )


def _require_same_keys(figure: PublishedAccuracy, own: Answers, published: Answers) -> None:
    if len(own) > figure.questions:
        raise LatentWireError(
            f"{figure.dataset} has {len(own)} answers, and {figure.questions} questions were"
            " published: the question sets are not the same"
        )
    for index in own.keys() & published.keys():
        if own[index].answer != published[index].answer:
            raise LatentWireError(
                f"question {index} of {figure.dataset} has the key {own[index].answer} here and"
                f" {published[index].answer} in the published answers: the question sets are not"
                " the same"
            )


def _outcomes(answers: Answers) -> dict[str, bool]:
    return {str(index): record.correct for index, record in answers.items()}


def _accuracy(answers: Answers) -> float:
    return sum(record.correct for record in answers.values()) / len(answers)
