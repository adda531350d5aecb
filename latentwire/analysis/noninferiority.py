"""Claims about a difference of two accuracies: superior, non-inferior, equivalent, at a margin.

A kind of claim says in which region the true difference d = accuracy(first) - accuracy(second)
lies: above the margin (`superior`), above minus the margin (`non_inferior`), or between the two
(`equivalent`). The data support it when they exclude everything outside the region, refute it when
they exclude everything inside, and otherwise leave it undecided. Margins are shares: 0.01 is one
percentage point. p-values are two-sided throughout, as the intervals are: p < 0.05 exactly when
the boundary lies outside the 95 % interval of `difference_interval`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.stats.power import normal_sample_size_one_tail

from latentwire.analysis.paired_scores import Paired, PairedScores
from latentwire.analysis.stats import ALPHA, Interval, PairedOutcomes, mcnemar_p

Kind = Literal["superior", "non_inferior", "equivalent"]
Verdict = Literal["supported", "refuted", "undecided"]
KINDS: tuple[Kind, ...] = ("superior", "non_inferior", "equivalent")
DEFAULT_MARGIN_POINTS = 1.0
POWER = 0.8  # for which `required_sample_size` plans


@dataclass(frozen=True)
class MarginTest:
    """What paired outcomes say about a claim, before any correction over several claims."""

    inside: bool  # whether the observed difference lies in the claimed region
    p: float  # two-sided, of the boundary that decides

    def verdict(self, p_adjusted: float) -> Verdict:
        """The verdict at a p-value corrected over a family of claims."""
        if not p_adjusted < ALPHA:
            return "undecided"
        return "supported" if self.inside else "refuted"


def margin_test(outcomes: Paired, kind: Kind, margin: float) -> MarginTest:
    """Test a claim of a kind at a margin (a share).

    Observed inside the region, every boundary of it must be excluded (for `equivalent`, two
    one-sided tests; D. J. Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987);
    observed outside, the one that was crossed. Equal accuracies (a boundary of 0) are tested by
    the exact McNemar test, other boundaries by the score test, and by both where the boundary lies
    between 0 and the observed difference. Scores that are resampled have tests of their own, see
    `paired_scores`. Without questions p is 1.
    """
    difference = outcomes.difference
    if math.isnan(difference):
        return MarginTest(inside=False, p=1.0)
    low, high = _region(kind, margin)
    crossed = [bound for bound in (low, high) if not low < difference < high]
    if crossed:
        bound = low if difference <= low else high
        return MarginTest(inside=False, p=_boundary_p(outcomes, bound))
    finite = [bound for bound in (low, high) if math.isfinite(bound)]
    return MarginTest(inside=True, p=max(_boundary_p(outcomes, bound) for bound in finite))


def score_z(only_first: float, only_second: float, n: float, difference: float) -> float:
    """Standard normal statistic of "the true difference is `difference`" for paired shares.

    With b and c the questions that only the first or only the second got right, and q the share
    of the second kind that is likeliest when d is the true difference:
    z = (b - c - n d) / sqrt(n (2 q + d (1 - d))), where
    q = (sqrt(B² - 8 n C) - B) / 4n, B = (2n - b + c) d - b - c, C = -c d (1 - d)
    (T. Tango, Statistics in Medicine 17, 1998). It stays honest where few questions or none
    differ: no difference among few questions is weak evidence of equality, which a test with the
    observed variance, zero, cannot see. d must lie strictly between -1 and 1.
    """
    b, c, d = only_first, only_second, difference
    linear = (2 * n - b + c) * d - b - c
    constant = -c * d * (1 - d)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    likeliest = (root - linear) / (4 * n)
    # Rounding can leave a share of -1e-17.
    variance = max(0.0, 2 * likeliest + d * (1 - d))
    distance = b - c - n * d
    if variance == 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(n * variance)


def difference_interval(outcomes: Paired) -> Interval:
    """The 95 % interval of accuracy(first) - accuracy(second): what the tests do not reject.

    It is that of the very tests that decide. The score test's interval is, where the exact
    McNemar test does not reject a difference of 0 and the score test would, widened to end at 0:
    the exact test is the stricter of the two wherever they differ. So p < 0.05 of any boundary,
    0 among them, exactly when the boundary lies outside. It holds the observed difference and has
    a width for any number of questions; NaN, NaN without any.
    """
    if isinstance(outcomes, PairedScores):
        return outcomes.interval()
    low, high = score_interval(outcomes)
    if outcomes.examples and mcnemar_p(outcomes) >= ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    return Interval(low, high)


def score_interval(outcomes: PairedOutcomes) -> Interval:
    """The differences that the score test does not reject at 5 %; NaN, NaN without questions."""
    if outcomes.examples == 0:
        return Interval(float("nan"), float("nan"))
    critical = float(norm.isf(ALPHA / 2))
    edge = 1 - 1e-9

    def beyond(difference: float, limit: float) -> float:
        z = score_z(outcomes.only_first, outcomes.only_second, outcomes.examples, difference)
        return max(-1e6, min(1e6, z)) - limit  # brentq wants finite values

    # z falls as the difference rises, from above to below.
    low = -1.0 if beyond(-edge, critical) <= 0 else brentq(beyond, -edge, edge, args=(critical,))
    high = 1.0 if beyond(edge, -critical) >= 0 else brentq(beyond, -edge, edge, args=(-critical,))
    return Interval(float(low), float(high))


def equal_p(outcomes: Paired) -> float:
    """Two-sided p-value of "both conditions score alike"."""
    return outcomes.equal_p if isinstance(outcomes, PairedScores) else mcnemar_p(outcomes)


def required_sample_size(outcomes: Paired, kind: Kind, margin: float) -> int | None:
    """How many questions would support the claim with 80 % power, alone, at the observed
    discordance (share of questions that only one of the two got right).

    For `non_inferior` and `equivalent` if both are equally accurate in truth; for `superior` if the
    observed difference is the true one. None where no number would do: an observed difference that
    is not beyond the margin, or no questions. Normal approximation, by statsmodels; the variance
    under the boundary is the score test's (R. J. Connor, Biometrics 43, 1987, for `superior`).
    """
    n = outcomes.examples
    if n == 0:
        return None
    if kind == "superior":
        true, bound, power = outcomes.difference, margin, POWER
    else:
        # Of equivalence's two tests each may fail with half of the chance that is allowed.
        true, bound = 0.0, -margin
        power = POWER if kind == "non_inferior" else (1 + POWER) / 2
    if true <= bound:
        return None
    std_null, std_alternative = _deviations(outcomes, true, bound)
    needed = normal_sample_size_one_tail(
        true - bound, power, ALPHA / 2, std_null=std_null, std_alternative=std_alternative
    )
    return math.ceil(float(needed))


def _deviations(outcomes: Paired, true: float, bound: float) -> tuple[float, float]:
    """Standard deviations of a question's difference, under the boundary and under the truth."""
    if isinstance(outcomes, PairedScores):
        deviation = outcomes.resampled.deviation * math.sqrt(outcomes.examples)
        return deviation, deviation
    discordance = outcomes.differing / outcomes.examples
    b, c = (discordance + true) / 2, (discordance - true) / 2
    under_truth = math.sqrt(max(0.0, discordance - true * true))
    return (true - bound) / score_z(b, c, 1, bound), under_truth


def about(count: int) -> str:
    """A count rounded up to two figures, with thousands marked: 3087 is "3,100"."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{math.ceil(count / step) * step:,}"


def _region(kind: Kind, margin: float) -> tuple[float, float]:
    if kind == "superior":
        return margin, math.inf
    return -margin, margin if kind == "equivalent" else math.inf


def _boundary_p(outcomes: Paired, bound: float) -> float:
    """The exact test's at 0, else the score test's. A boundary between 0 and what was observed is
    never easier to exclude than 0: who beats by more than a point also beats."""
    if bound == 0:
        return equal_p(outcomes)
    if isinstance(outcomes, PairedScores):
        p = outcomes.resampled.p(bound)
    else:
        z = score_z(outcomes.only_first, outcomes.only_second, outcomes.examples, bound)
        p = float(2 * norm.sf(abs(z)))
    between = 0 < bound <= outcomes.difference or outcomes.difference <= bound < 0
    return max(p, equal_p(outcomes)) if between else p
