"""Do answers reproduce a study's figures? Condition by condition, and as a whole.

The same questions were asked, so on a complete set an accuracy has no sampling error of its own:
what is tested is whether another run of the same system would differ by so much. With the study's
answers at hand the two are compared question by question. With its figures alone they are compared
as if the questions were others, which is conservative: a difference that is called one is one.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from latentwire.analysis.bootstrap import RESAMPLES, paired_bootstrap_intervals
from latentwire.analysis.reproduction.figures import Figure, Point, Study
from latentwire.analysis.stats import ALPHA, CONFIDENCE, Interval, holm, mcnemar_p, paired_outcomes
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record

Answers = Mapping[int, Record]  # by row of the question set
Verdict = Literal["reproduced", "differs", "undecided", "not run"]

DEFAULT_TOLERANCE_POINTS = 2.0


@dataclass(frozen=True)
class Compared:
    """One condition beside its published figure."""

    figure: Figure
    answers: Answers
    difference: float  # own accuracy - published; NaN where it was not run
    interval: Interval  # of the difference
    p: float  # of "no difference", uncorrected; NaN where it was not run
    p_holm: float  # corrected over all conditions that were run
    agreement: float | None  # share of common questions with the same letter; None: not known
    verdict: Verdict

    @property
    def accuracy(self) -> float:
        return _accuracy(self.answers) if self.answers else float("nan")


@dataclass(frozen=True)
class Reproduction:
    """All conditions of a study, and whether they were reproduced together."""

    rows: tuple[Compared, ...]
    paired: bool  # whether the study's own answers were at hand
    tolerance: float  # a share
    mean_difference: float  # over the conditions, each counting once
    mean_interval: Interval
    p: float  # of "nowhere a difference, and none on average"
    verdict: Verdict


def compare(
    study: Study,
    own: Mapping[Point, Answers],
    published: Mapping[Point, Answers] | None = None,
    tolerance_points: float = DEFAULT_TOLERANCE_POINTS,
    resamples: int = RESAMPLES,
) -> Reproduction:
    """Compare answers with a study's figures and, where they are known, with its answers.

    A condition differs where the Holm-corrected p is below 0.05; is reproduced where it does not,
    all questions were answered and the difference is within the tolerance; else it is undecided.
    The whole differs where the overall p is below 0.05, and is reproduced where it does not and
    every condition is.

    Raises LatentWireError where own and published answers have other keys: other questions.
    """
    tolerance = tolerance_points / 100
    known = published or {}
    run = [figure for figure in study.figures if own.get(figure.point)]
    for figure in run:
        _require_same_keys(figure, own[figure.point], known.get(figure.point, {}))
    tested = _paired(run, own, known, resamples) if published else _unpaired(run, own)
    corrected = holm([p for _, _, p in tested.values()])
    p_holm = dict(zip(tested, corrected, strict=True))
    rows = [
        _compared(
            figure,
            own[figure.point],
            known.get(figure.point),
            *tested[figure.point],
            p_holm[figure.point],
            tolerance,
        )
        if figure.point in tested
        else _not_run(figure)
        for figure in study.figures
    ]
    mean, interval, p_mean = _mean_difference(rows, known, paired=bool(published))
    # Two looks, one at each condition and one at their mean; Bonferroni holds whatever ties them.
    p = min(1.0, 2 * min([p_mean, *corrected])) if corrected else 1.0
    whole: Verdict = "undecided"
    if p < ALPHA:
        whole = "differs"
    elif all(row.verdict == "reproduced" for row in rows):
        whole = "reproduced"
    elif all(row.verdict == "not run" for row in rows):
        whole = "not run"
    return Reproduction(tuple(rows), bool(published), tolerance, mean, interval, p, whole)


def _compared(
    figure: Figure,
    answers: Answers,
    published: Answers | None,
    difference: float,
    interval: Interval,
    p: float,
    p_holm: float,
    tolerance: float,
) -> Compared:
    verdict: Verdict = "undecided"
    if p_holm < ALPHA:
        verdict = "differs"
    elif len(answers) == figure.questions and abs(difference) <= tolerance:
        verdict = "reproduced"
    agreement = None if published is None else _agreement(answers, published)
    return Compared(figure, answers, difference, interval, p, p_holm, agreement, verdict)


def _not_run(figure: Figure) -> Compared:
    nan = float("nan")
    return Compared(figure, {}, nan, Interval(nan, nan), nan, nan, None, "not run")


_Tested = dict[Point, tuple[float, Interval, float]]  # difference, interval, p


def _paired(
    figures: Sequence[Figure],
    own: Mapping[Point, Answers],
    published: Mapping[Point, Answers],
    resamples: int,
) -> _Tested:
    """Question by question: exact McNemar, paired bootstrap."""
    missing = [figure.point for figure in figures if not published.get(figure.point)]
    if missing:
        raise LatentWireError(f"the published answers lack the condition {missing[0]}")
    pairs = [(_outcomes(own[f.point]), _outcomes(published[f.point])) for f in figures]
    intervals = paired_bootstrap_intervals(pairs, resamples=resamples)
    outcomes = [paired_outcomes(*pair) for pair in pairs]
    return {
        figure.point: (each.difference, interval, mcnemar_p(each))
        for figure, each, interval in zip(figures, outcomes, intervals, strict=True)
    }


def _unpaired(figures: Sequence[Figure], own: Mapping[Point, Answers]) -> _Tested:
    """As two samples of questions: score test and its interval (O. Miettinen and M. Nurminen,
    Statistics in Medicine 4, 1985; by statsmodels)."""
    found: _Tested = {}
    for figure in figures:
        answers = own[figure.point]
        correct, there = sum(r.correct for r in answers.values()), _published_correct(figure)
        counts = (correct, len(answers), there, figure.questions)
        p = float(
            test_proportions_2indep(*counts, compare="diff", method="score", correction=True).pvalue
        )
        low, high = confint_proportions_2indep(
            *counts, compare="diff", method="score", alpha=1 - CONFIDENCE, correction=True
        )
        # Equal shares of 0 or 1 leave the test without a variance.
        p = 1.0 if math.isnan(p) else p
        difference = correct / len(answers) - figure.accuracy
        found[figure.point] = (difference, Interval(float(low), float(high)), p)
    return found


def _mean_difference(
    rows: Sequence[Compared], published: Mapping[Point, Answers], *, paired: bool
) -> tuple[float, Interval, float]:
    """Mean over conditions of the difference, its interval and p by a z-test.

    The variance is that of the questions' sums over conditions (a question is a cluster); with
    figures alone that of the own answers counts twice, for the published ones have as much.
    """
    run = [row for row in rows if row.answers]
    if not run:
        nan = float("nan")
        return nan, Interval(nan, nan), 1.0
    mean = math.fsum(row.difference for row in run) / len(run)
    sums: dict[tuple[str, int], float] = defaultdict(float)
    for row in run:
        values = {index: float(record.correct) for index, record in row.answers.items()}
        if paired:
            there = published[row.figure.point]
            values = {i: value - there[i].correct for i, value in values.items() if i in there}
        middle = math.fsum(values.values()) / len(values)
        for index, value in values.items():
            sums[row.figure.dataset, index] += (value - middle) / (len(values) * len(run))
    variance = math.fsum(value * value for value in sums.values()) * (1 if paired else 2)
    if variance == 0:
        return mean, Interval(mean, mean), 1.0 if mean == 0 else 0.0
    deviation = math.sqrt(variance)
    reach = float(norm.isf((1 - CONFIDENCE) / 2)) * deviation
    p = float(2 * norm.sf(abs(mean) / deviation))
    return mean, Interval(mean - reach, mean + reach), p


def _published_correct(figure: Figure) -> int:
    """How many questions a rounded accuracy stands for."""
    return round(figure.accuracy * figure.questions)


def _require_same_keys(figure: Figure, own: Answers, published: Answers) -> None:
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


def _agreement(own: Answers, published: Answers) -> float:
    common = own.keys() & published.keys()
    if not common:
        return float("nan")
    return sum(own[i].predicted == published[i].predicted for i in common) / len(common)


def _outcomes(answers: Answers) -> dict[str, bool]:
    return {str(index): record.correct for index, record in answers.items()}


def _accuracy(answers: Answers) -> float:
    return sum(record.correct for record in answers.values()) / len(answers)
