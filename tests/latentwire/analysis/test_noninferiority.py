"""Claims at a margin: the score test by brute force, its size and power, and every verdict."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, multinomial, norm
from statsmodels.stats.contingency_tables import mcnemar

from latentwire.analysis.noninferiority import (
    KINDS,
    Kind,
    about,
    difference_interval,
    margin_test,
    required_sample_size,
    score_interval,
    score_z,
)
from latentwire.analysis.stats import PairedOutcomes, mcnemar_p


def likeliest_variance(b: int, c: int, n: int, difference: float) -> float:
    """n times the variance of (b - c) / n under the likeliest shares with that difference."""

    def unlikeliness(second: float) -> float:
        shares = (second + difference, second, 1 - 2 * second - difference)
        counts = (b, c, n - b - c)
        return -sum(k * math.log(max(p, 1e-300)) for k, p in zip(counts, shares, strict=True) if k)

    low, high = max(0.0, -difference), (1 - difference) / 2
    found = minimize_scalar(
        unlikeliness, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    second = min((low, high, float(found.x)), key=unlikeliness)
    return 2 * second + difference - difference**2


@pytest.mark.parametrize("difference", [-0.3, -0.01, 0.0, 0.02, 0.5])
@pytest.mark.parametrize(
    ("b", "c", "n"), [(3, 4, 1150), (0, 0, 50), (0, 7, 80), (7, 0, 80), (40, 71, 500), (1, 7, 21)]
)
def test_score_is_over_the_likeliest_variance(b: int, c: int, n: int, difference: float) -> None:
    variance = likeliest_variance(b, c, n, difference)
    distance = b - c - n * difference
    expected = distance / math.sqrt(n * variance) if variance > 1e-9 else 0.0
    assert score_z(b, c, n, difference) == pytest.approx(expected, abs=1e-4)


def test_interval_of_a_known_value() -> None:
    # M. W. Fagerland, S. Lydersen and P. Laake, Statistics in Medicine 33 (2014): airway
    # hyper-responsiveness of 21 children, Tango's interval.
    low, high = score_interval(PairedOutcomes(1, 1, 7, 12))
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


counts = st.integers(0, 60)


@given(counts, counts, counts, counts)
def test_interval_ends_are_where_the_test_turns(both: int, b: int, c: int, neither: int) -> None:
    outcomes = PairedOutcomes(both, b, c, neither)
    low, high = score_interval(outcomes)
    if outcomes.examples == 0:
        assert math.isnan(low) and math.isnan(high)
        return
    assert -1 <= low <= outcomes.difference <= high <= 1
    for end, sign in ((low, 1), (high, -1)):
        if abs(end) < 0.999:
            assert score_z(b, c, outcomes.examples, end) == pytest.approx(sign * 1.959964, abs=1e-3)
    mirrored = score_interval(PairedOutcomes(both, c, b, neither))
    assert mirrored == pytest.approx((-high, -low), abs=1e-6)


SMALL_TABLES = [
    PairedOutcomes(n - b - c, b, c, 0)
    for n in (1, 2, 3, 5, 6, 8, 12, 17)
    for b in range(n + 1)
    for c in range(n + 1 - b)
]


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_and_verdicts_never_disagree(kind: Kind) -> None:
    for outcomes in SMALL_TABLES:
        low, high = difference_interval(outcomes)
        assert -1 <= low <= outcomes.difference <= high <= 1
        assert high - low > 0.3  # 17 questions are few: 0.37 where none differs
        margins = (0.0, 0.01, 0.1, 0.3, 0.7) if kind == "superior" else (0.01, 0.1, 0.3, 0.7)
        for margin in margins:
            finding = margin_test(outcomes, kind, margin)
            left = {"superior": margin}.get(kind, -margin)
            right = margin if kind == "equivalent" else math.inf
            inside, outside = left < low and high < right, high < left or right < low
            expected = "supported" if inside else "refuted" if outside else "undecided"
            assert finding.verdict(finding.p) == expected, (outcomes, margin)


@pytest.mark.parametrize(
    "outcomes", [*SMALL_TABLES[::7], PairedOutcomes(480, 12, 4, 4), PairedOutcomes(1143, 3, 4, 0)]
)
def test_the_interval_is_what_two_other_tests_leave(outcomes: PairedOutcomes) -> None:
    """The score test by brute force, and the exact McNemar test of statsmodels at 0."""
    b, c, n = outcomes.only_first, outcomes.only_second, outcomes.examples

    def excluded(difference: float) -> bool:
        variance = likeliest_variance(b, c, n, difference)
        distance = abs(b - c - n * difference)
        return distance > 1.959964 * math.sqrt(n * max(variance, 1e-15))

    low, high = difference_interval(outcomes)
    exact = mcnemar([[outcomes.both, b], [c, outcomes.neither]], exact=True).pvalue
    assert (low <= 0 <= high) == (exact >= 0.05)
    for end, outward in ((low, -1), (high, 1)):
        if end == 0:  # widened: the score test alone would exclude 0
            assert exact >= 0.05 and excluded(0.0)
        else:
            beyond, within = end + 1e-3 * outward, end - 1e-3 * outward
            assert beyond <= -1 or beyond >= 1 or excluded(beyond)
            assert not excluded(within)


def test_the_exact_test_is_the_stricter_one_at_0() -> None:
    # So that widening the score test's interval is all that it takes.
    for differing in range(1, 400):
        fewer = np.arange(differing // 2 + 1)
        exact = np.minimum(1, 2 * binom.cdf(fewer, differing, 0.5))
        score = 2 * norm.sf((differing - 2 * fewer) / math.sqrt(differing))
        assert not ((exact < 0.05) & (score >= 0.05)).any()


def chance(n: int, b_share: float, c_share: float, kind: Kind, margin: float) -> float:
    """Exact probability that n questions support the claim: over every outcome there can be."""
    total = 0.0
    most = math.ceil(n * max(b_share, c_share) + 9 * math.sqrt(n * max(b_share, c_share)) + 9)
    for b in range(most):
        for c in range(most):
            if b + c > n:
                continue
            finding = margin_test(PairedOutcomes(n - b - c, b, c, 0), kind, margin)
            if finding.verdict(finding.p) == "supported":
                shares = [b_share, c_share, 1 - b_share - c_share]
                total += float(multinomial.pmf([b, c, n - b - c], n, shares))
    return total


@pytest.mark.parametrize("discordance", [0.03, 0.1])
def test_wrongly_supported_at_most_as_often_as_allowed(discordance: float) -> None:
    # At the boundary itself, where erring is likeliest: 2.5 %, a test of one of two sides.
    b, c = (discordance - 0.03) / 2, (discordance + 0.03) / 2
    for kind in ("non_inferior", "equivalent"):
        assert chance(150, b, c, kind, 0.03) < 0.032  # the test is asymptotic
    assert chance(150, discordance / 2, discordance / 2, "superior", 0.0) < 0.025  # exact


@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [
        ("non_inferior", PairedOutcomes(60, 3, 3, 34)),
        ("equivalent", PairedOutcomes(60, 3, 3, 34)),
        ("superior", PairedOutcomes(60, 12, 3, 25)),
    ],
)
def test_questions_needed_have_the_power_that_they_promise(
    kind: Kind, outcomes: PairedOutcomes
) -> None:
    margin = 0.0 if kind == "superior" else 0.05
    needed = required_sample_size(outcomes, kind, margin)
    assert needed is not None
    b, c = outcomes.only_first / outcomes.examples, outcomes.only_second / outcomes.examples
    assert chance(needed, b, c, kind, margin) == pytest.approx(0.8, abs=0.06)
    assert chance(needed // 2, b, c, kind, margin) < 0.65


def test_the_margin_of_one_point_at_4_per_cent_discordance() -> None:
    outcomes = PairedOutcomes(280, 10, 10, 200)
    needed = required_sample_size(outcomes, "non_inferior", 0.01)
    # By the usual formula: 0.04 (1.960 + 0.842)^2 / 0.01^2 = 3140.
    assert needed == pytest.approx(3140, rel=0.05)
    assert margin_test(outcomes, "non_inferior", 0.01).p > 0.05
    # Where nothing differs, the boundary itself still has a variance: (1.960)^2 0.99 / 0.01.
    same = PairedOutcomes(280, 0, 0, 220)
    assert required_sample_size(same, "non_inferior", 0.01) == math.ceil(1.959964**2 * 99)


def test_no_number_of_questions_shows_what_is_not_observed() -> None:
    worse = PairedOutcomes(50, 3, 9, 38)
    assert required_sample_size(worse, "superior", 0.0) is None
    assert required_sample_size(PairedOutcomes(50, 9, 3, 38), "superior", 0.06) is None
    assert required_sample_size(PairedOutcomes(0, 0, 0, 0), "non_inferior", 0.01) is None


@pytest.mark.parametrize(
    ("kind", "margin", "only_first", "only_second", "verdict"),
    [
        ("superior", 0.0, 60, 20, "supported"),
        ("superior", 0.0, 20, 60, "refuted"),
        ("superior", 0.0, 30, 25, "undecided"),
        ("superior", 0.0, 0, 0, "undecided"),
        ("superior", 0.02, 60, 20, "supported"),
        ("superior", 0.05, 60, 20, "undecided"),
        ("superior", 0.05, 3, 2, "refuted"),
        ("non_inferior", 0.03, 20, 20, "supported"),
        ("non_inferior", 0.03, 10, 90, "refuted"),
        ("non_inferior", 0.01, 20, 20, "undecided"),
        ("non_inferior", 0.03, 90, 10, "supported"),
        ("equivalent", 0.03, 12, 12, "supported"),
        ("equivalent", 0.03, 90, 10, "refuted"),
        ("equivalent", 0.03, 10, 90, "refuted"),
        ("equivalent", 0.01, 12, 12, "undecided"),
    ],
)
def test_every_verdict(
    kind: Kind, margin: float, only_first: int, only_second: int, verdict: str
) -> None:
    n = 1000
    same = n - only_first - only_second
    outcomes = PairedOutcomes(same, only_first, only_second, 0)
    finding = margin_test(outcomes, kind, margin)
    assert finding.verdict(finding.p) == verdict
    # The interval says the same: it lies inside the claimed region, outside, or across.
    low, high = difference_interval(outcomes)
    bounds = {
        "superior": (margin, math.inf),
        "non_inferior": (-margin, math.inf),
        "equivalent": (-margin, margin),
    }[kind]
    inside, outside = bounds[0] < low and high < bounds[1], high < bounds[0] or low > bounds[1]
    by_interval = "supported" if inside else "refuted" if outside else "undecided"
    assert by_interval == verdict
    assert finding.verdict(0.05) == "undecided"  # corrected p-values decide


def test_few_equal_answers_show_nothing() -> None:
    for kind in KINDS:
        finding = margin_test(PairedOutcomes(30, 0, 0, 20), kind, 0.01)
        assert finding.verdict(finding.p) == "undecided"
    for kind in KINDS:
        assert margin_test(PairedOutcomes(0, 0, 0, 0), kind, 0.01).p == 1
    assert all(math.isnan(end) for end in difference_interval(PairedOutcomes(0, 0, 0, 0)))


def test_no_margin_is_mcnemars_test() -> None:
    outcomes = PairedOutcomes(50, 9, 3, 38)
    assert margin_test(outcomes, "superior", 0.0).p == mcnemar_p(outcomes)


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (38, "38"), (381, "390"), (3087, "3,100"), (3100, "3,100"), (12269, "13,000")],
)
def test_counts_are_rounded_up_to_two_figures(count: int, text: str) -> None:
    assert about(count) == text


def test_score_statistic_falls_with_the_difference() -> None:
    grid = np.linspace(-0.99, 0.99, 199)
    for b, c, n in ((0, 0, 40), (5, 0, 40), (3, 9, 40), (20, 20, 40)):
        values = [score_z(b, c, n, float(difference)) for difference in grid]
        assert all(x > y for x, y in itertools.pairwise(values))
