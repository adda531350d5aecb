"""What the probabilities of the options say beyond the letter: columns of one row, from the
`option_logprobs` of its records. Probabilities are taken among a question's options."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latentwire.analysis.bootstrap import RESAMPLES
from latentwire.analysis.donors import Answers, DonorAnswers
from latentwire.analysis.estimates import NOTHING, Estimate, of_mean
from latentwire.analysis.paired_scores import paired_with_donors
from latentwire.analysis.randomization import drawn_p, generator
from latentwire.analysis.stats import Outcomes, scored
from latentwire.evaluation.record import Record

BINS = 10


def option_columns(own: Answers, lent: DonorAnswers) -> dict[str, Any]:
    """Columns of both estimates; empty where records hold no log-probabilities."""
    gain, error = key_logprob_gain(own, lent), calibration_error(own)
    return {**gain.columns("key_logprob_gain"), **error.columns("calibration_error")}


def among_options(record: Record) -> dict[str, float] | None:
    """The log-probability of each option, of all that is put on options; None where it is not
    known, or the key is none of them."""
    found = record.option_logprobs
    if record.unanswered is not None or not found or record.answer not in found:
        return None
    most = max(found.values())
    whole = most + math.log(sum(math.exp(value - most) for value in found.values()))
    return {label: value - whole for label, value in found.items()}


def key_logprob_gain(own: Answers, lent: DonorAnswers) -> Estimate:
    """How much more log-probability (natural logarithm) the key gets with the own message than with
    another's: the mean over questions, of each the mean over its donors.

    A gain of 0 is tested as with several donors everywhere: by the ranks of the own message's
    log-probability among the donors'.
    """
    mine = _of_keys(own)
    options = max((len(r.option_logprobs or ()) for r in own.values()), default=0)
    compared = paired_with_donors(mine, [_of_keys(each) for each in lent.answered])
    if not compared.differences:
        return NOTHING
    assert compared.exact_p is not None
    # From a guess to certainty: what one question more could add or take.
    return of_mean(compared.differences, math.log(max(2, options)), compared.exact_p)


def _of_keys(answers: Answers) -> Outcomes:
    found = {name: among_options(record) for name, record in answers.items()}
    return {
        name: scored(logprobs[answers[name].answer], answers[name].cluster)
        for name, logprobs in found.items()
        if logprobs
    }


class _Confidence(NamedTuple):
    """Of each question [questions]: the probability of the likeliest option, and whether it is the
    key; and in which of BINS equal parts of 0 to 1 the first lies."""

    names: list[str]
    confidence: NDArray[np.float64]
    right: NDArray[np.float64]
    bins: NDArray[np.int64]


def calibration_error(own: Answers) -> Estimate:
    """The expected calibration error: how far probabilities of the likeliest option are from the
    shares of questions that they are right for, over ten bins of equal width (C. Guo et al., ICML
    2017).

    Tested against perfect calibration, which few questions never show exactly, by drawing from each
    bin as many right answers as its mean probability gives (consistency resampling; J. Bröcker and
    L. Smith, Weather and Forecasting 22, 2007).
    """
    told = _confidence(own)
    if not told.names:
        return NOTHING
    sizes = np.bincount(told.bins, minlength=BINS)
    sure = np.bincount(told.bins, told.confidence, BINS)
    gaps = sure - np.bincount(told.bins, told.right, BINS)
    shares = np.divide(sure, sizes, out=np.zeros(BINS), where=sizes > 0)
    drawn = generator().binomial(sizes, np.clip(shares, 0, 1), size=(RESAMPLES - 1, BINS))
    p = drawn_p(float(abs(gaps).sum()), abs(sure - drawn).sum(axis=1), two_sided=False)
    # Of a question, its part of its bin's gap: their mean is the error.
    parts = np.sign(gaps)[told.bins] * (told.confidence - told.right)
    scores = {
        name: scored(float(part), own[name].cluster)
        for name, part in zip(told.names, parts, strict=True)
    }
    return of_mean(scores, 1.0, p, signed=False)


def _confidence(own: Answers) -> _Confidence:
    names, confidence, right = [], [], []
    for name, record in own.items():
        logprobs = among_options(record)
        if logprobs:
            likeliest = _likeliest(logprobs)
            names.append(name)
            confidence.append(math.exp(logprobs[likeliest]))
            right.append(float(likeliest == record.answer))
    sure = np.array(confidence)
    bins = np.minimum((BINS * sure).astype(int), BINS - 1)
    return _Confidence(names, sure, np.array(right), bins)


def _likeliest(logprobs: dict[str, float]) -> str:
    """The first of the alphabet among equals."""
    return min(logprobs, key=lambda label: (-logprobs[label], label))
