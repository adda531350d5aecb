"""What answers to own and lent messages tell, each number computed a second way."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, entropy

from latentwire.analysis.content_columns import (
    bits_communicated,
    content_columns,
    influence,
    pairs_of,
)
from latentwire.analysis.content_columns import follows_donor as follows_donor
from latentwire.analysis.donors import Answers, DonorAnswers, lent_answers
from latentwire.analysis.estimates import Estimate
from latentwire.analysis.option_columns import among_options, calibration_error, key_logprob_gain
from latentwire.analysis.stats import ALPHA
from latentwire.evaluation.record import Record
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.squad import TASK as WORDS

Triple = tuple[str, str, str]  # own key, donor's key, answer ("-" for none)
LETTERS = "ABCD"


def record(index: int, key: str, answer: str, donor: str | None = None, **more: object) -> Record:
    return Record(
        example_id=f"q{index}", index=index, answer=key, output=answer, correct=key == answer,
        predicted=None if answer == "-" else answer, prompt_tokens=9, generated_tokens=1,
        wire_bytes=100, donor_id=None if donor is None else "other", donor_answer=donor,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def counting(by_number: Mapping[int, Answers]) -> DonorAnswers:
    """Texts: none is brought to another length."""
    return lent_answers(by_number, {}, merges=False)


def lent(*donors: Sequence[Triple], cluster: int = 0) -> DonorAnswers:
    """The answers with each donor; questions in groups of `cluster` share a passage."""
    return counting(
        {
            number: {
                f"q{n}": record(
                    n, own, answer, key, cluster=f"p{n // cluster}" if cluster else None
                )
                for n, (own, key, answer) in enumerate(triples)
            }
            for number, triples in enumerate(donors, start=1)
        }
    )


def own(answers: str, keys: str | None = None) -> dict[str, Record]:
    pairs = zip(answers, keys or "A" * len(answers), strict=True)
    return {f"q{n}": record(n, key, answer) for n, (answer, key) in enumerate(pairs)}


def drawn(count: int, seed: int, following: float) -> list[Triple]:
    """Triples whose answers are the donor's key so often, and else any letter."""
    draw = np.random.default_rng(seed)
    found = []
    for own_key, key, letter in draw.integers(4, size=(count, 3)):
        answer = key if draw.random() < following else letter
        found.append((LETTERS[own_key], LETTERS[key], LETTERS[answer]))
    return found


def bits(*donors: Sequence[Triple], cluster: int = 0) -> Estimate:
    return bits_communicated(pairs_of(lent(*donors, cluster=cluster)))


def follows(*donors: Sequence[Triple], cluster: int = 0) -> Estimate:
    return follows_donor(pairs_of(lent(*donors, cluster=cluster)))


def information(pairs: Sequence[tuple[str, str]]) -> float:
    """H(key) + H(answer) - H(both), by SciPy."""
    parts = [Counter(key for key, _ in pairs), Counter(a for _, a in pairs), Counter(pairs)]
    of_key, of_answer, of_both = (entropy(list(each.values()), base=2) for each in parts)
    return float(of_key + of_answer - of_both)


def test_bits_are_mutual_information_less_that_of_shuffled_keys() -> None:
    triples = [("A", *pair) for pair in ("BB", "BB", "CC", "CD", "D-", "BA")]
    keys, answers = [t[1] for t in triples], [t[2] for t in triples]
    plain = information(list(zip(keys, answers, strict=True)))
    shuffled = [information(list(zip(each, answers, strict=True))) for each in permutations(keys)]
    found = bits(triples)
    assert found.value == pytest.approx(max(0, plain - float(np.mean(shuffled))), abs=0.01)
    expected = np.mean(np.array(shuffled) >= plain - 1e-9)
    assert found.p is not None and found.p >= expected - 5 * math.sqrt(expected / 9999)


def test_the_bias_of_bits_is_about_miller_and_madows() -> None:
    triples = drawn(1150, 1, 0.3)
    pairs = [(key, answer) for _, key, answer in triples]
    counted = [len(set(each)) - 1 for each in ([k for k, _ in pairs], [a for _, a in pairs], pairs)]
    correction = (counted[0] + counted[1] - counted[2]) / (2 * len(pairs) * math.log(2))
    found = bits(triples)
    assert found.value == pytest.approx(information(pairs) + correction, abs=1e-3)
    # What is true of answers that follow in 30 % of the cases and else are any letter.
    cells = np.full(16, 0.7 / 16)
    cells[::5] += 0.3 / 4
    assert found.low < 4 - entropy(cells, base=2) < found.high
    assert found.p == pytest.approx(1e-4)


def test_bits_of_answers_that_know_nothing_are_none() -> None:
    values = [bits(drawn(400, seed, 0)) for seed in range(40)]
    assert np.mean([each.value for each in values]) < 0.01  # as counted it would be 0.016
    assert sum(each.p < ALPHA for each in values if each.p is not None) <= 6
    whole = [(key, LETTERS[(LETTERS.index(key) + 1) % 4]) for key in LETTERS * 50]
    found = bits([(own_key, key, key) for own_key, key in whole])
    assert found.value == pytest.approx(2, abs=0.05) and found.high <= 2.1


def expected_by_chance(triples: Sequence[Triple]) -> tuple[float, float]:
    """The share of answers that are the donor's key, and the mean of that over all pairs of an
    answer and a key of the same own key: question by question."""
    apart = [each for each in triples if each[0] != each[1]]
    hits = [answer == key for _, key, answer in apart]
    chance = []
    for own_key, _, answer in apart:
        others = [key for other, key, _ in apart if other == own_key]
        chance.append(others.count(answer) / len(others))
    return float(np.mean(hits)), float(np.mean(chance))


@pytest.mark.parametrize("answer", ["A", "-"])
def test_one_answer_to_everything_tells_nothing(answer: str) -> None:
    triples = [(own, key, answer) for own, key, _ in drawn(300, 5, 0)]
    found = bits(triples, triples)
    assert (found.value, found.low, found.p) == (0, 0, 1)
    assert follows(triples).value == pytest.approx(0) and follows(triples).p == 1


@pytest.mark.parametrize("following", [0.0, 0.2, 0.9])
def test_following_is_what_chance_does_not_explain(following: float) -> None:
    triples = drawn(600, 2, following)
    hit, chance = expected_by_chance(triples)
    found = follows(triples)
    assert found.value == pytest.approx(hit - chance)
    assert (found.p is not None and found.p < ALPHA) == (following > 0)
    assert found.low < found.value < found.high


def test_following_is_tested_as_by_every_shuffle() -> None:
    triples = [("A", *pair) for pair in ("BB", "BB", "CC", "CD", "DC", "DB", "BA")]
    triples += [("B", "B", "B"), ("C", "A", "A"), ("C", "D", "D")]
    first, second = triples[:7], triples[8:]
    hits = sum(key == answer for _, key, answer in first + second)
    sums = [
        sum(key == answer for key, (_, _, answer) in zip(one, first, strict=True))
        + sum(key == answer for key, (_, _, answer) in zip(other, second, strict=True))
        for one in permutations([t[1] for t in first])
        for other in permutations([t[1] for t in second])
    ]
    expected = 2 * min(np.mean(np.array(sums) >= hits), np.mean(np.array(sums) <= hits))
    found = follows(triples)
    assert found.p is not None and found.p >= expected - 0.01


def test_a_receiver_that_is_right_or_likes_a_letter_follows_nobody() -> None:
    """Answers that know the own key are the donor's key less often than any others: as a yardstick
    these would make of a confused receiver one that follows."""
    draw = np.random.default_rng(4)
    keys = [tuple(LETTERS[n] for n in pair) for pair in draw.integers(4, size=(2000, 2))]
    for answers in ([own_key for own_key, _ in keys], ["B"] * 2000):
        triples = [(a, b, answer) for (a, b), answer in zip(keys, answers, strict=True)]
        found = follows(triples)
        assert abs(found.value) < 1e-9 and found.low < 0 < found.high and found.p == 1


def test_influence_is_tested_exactly() -> None:
    mine = own("AABBCCDD--" * 5)
    others = "AABBCCDDA-" * 4 + "BBBBCCDD--"
    found = influence(mine, lent([("A", "B", answer) for answer in others]))
    assert found.value == 6 / 50
    tails = [binomtest(6, 50, 0.03, alternative=a).pvalue for a in ("less", "greater")]
    assert found.p == pytest.approx(min(1, 2 * min(tails)))
    ends = binomtest(6, 50).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_influence_is_of_what_was_answered_both_ways() -> None:
    mine = own("ABC")
    mine["q0"] = record(0, "A", "-", unanswered="too long")
    donors = lent([("A", "B", "B")] * 3, [("A", "B", "C")] * 3)
    assert influence(mine, donors).value == 0.5  # B to B and C; C to B and C
    columns = content_columns(mine, donors, TASK)
    assert columns["key_collisions"] == 0 and columns["follows_donor_share"] == 0.5
    assert math.isnan(content_columns(mine, donors, WORDS)["bits_communicated"])


def test_several_donors_are_averaged_question_by_question() -> None:
    sets = [drawn(300, seed, 0.5) for seed in (5, 6)]
    # All donors' questions are the same ones.
    sets[1] = [(one[0], *two[1:]) for one, two in zip(*sets, strict=True)]
    shares = [expected_by_chance(each) for each in sets]
    counts = [sum(own_key != key for own_key, key, _ in each) for each in sets]
    by_question: dict[int, list[float]] = defaultdict(list)
    for each in sets:
        apart = [(n, *triple) for n, triple in enumerate(each) if triple[0] != triple[1]]
        for n, own_key, key, answer in apart:
            same = [(k, a) for _, o, k, a in apart if o == own_key]
            q, p = (sum(x[i] == y for x in same) / len(same) for i, y in ((0, answer), (1, key)))
            both = (
                sum((sum(k == c for k, _ in same) * sum(a == c for _, a in same)) for c in LETTERS)
                / len(same) ** 2
            )
            by_question[n].append((answer == key) - q - p + both)
    expected = np.mean([np.mean(values) for values in by_question.values()])
    found = follows(*sets)
    assert found.value == pytest.approx(expected)
    pooled = sum(c * (hit - chance) for c, (hit, chance) in zip(counts, shares, strict=True))
    assert found.value == pytest.approx(pooled / sum(counts), abs=0.02)
    apart = [bits(each).value for each in sets]
    assert bits(*sets).value == pytest.approx(np.mean(apart), abs=5e-3)
    width = [each.high - each.low for each in (bits(sets[0]), bits(*sets))]
    assert width[1] < width[0]


def test_a_donor_that_was_asked_less_does_not_count() -> None:
    donors = lent([("A", "B", "B")] * 5, [("A", "B", "C")] * 3, [("A", "C", "C")] * 5)
    assert [len(each) for each in donors.by_donor] == [5, 5]
    assert donors.by_donor[1]["q0"].donor_answer == "C"
    assert counting({}).examples == 0 and counting({1: {}}).by_donor == []


def with_logprobs(answer: str, index: int, logits: Sequence[float]) -> Record:
    told = {label: float(value) for label, value in zip(LETTERS, logits, strict=True)}
    return record(index, answer, "A", "B", option_logprobs=told)


def test_log_probabilities_are_taken_among_options() -> None:
    found = among_options(with_logprobs("B", 0, [-9, -10, -11, -12]))
    assert found is not None
    probabilities = np.exp([-9, -10, -11, -12]) / np.exp([-9, -10, -11, -12]).sum()
    assert list(np.exp(list(found.values()))) == pytest.approx(list(probabilities))
    assert among_options(with_logprobs("E", 0, [-1, -1, -1, -1])) is None
    assert among_options(record(0, "A", "A")) is None


def some_logprobs(seed: int, count: int = 80) -> tuple[dict[str, Record], list[np.ndarray], str]:
    draw = np.random.default_rng(seed)
    keys = "".join(LETTERS[n] for n in draw.integers(4, size=count))
    tables = [draw.normal(size=(count, 4)) for _ in range(3)]
    for n, key in enumerate(keys):
        tables[0][n, LETTERS.index(key)] += 1
    mine = {f"q{n}": with_logprobs(key, n, tables[0][n]) for n, key in enumerate(keys)}
    return mine, tables, keys


@pytest.mark.parametrize("donors", [1, 2])
def test_the_gain_of_the_key_is_a_mean_of_differences(donors: int) -> None:
    mine, tables, keys = some_logprobs(7)
    others = counting(
        {
            d: {f"q{n}": with_logprobs(key, n, tables[d][n]) for n, key in enumerate(keys)}
            for d in range(1, donors + 1)
        }
    )
    told = [
        [float(np.log(np.exp(t[n, LETTERS.index(key)]) / np.exp(t[n]).sum())) for t in tables]
        for n, key in enumerate(keys)
    ]
    expected = np.mean([row[0] - np.mean(row[1 : donors + 1]) for row in told])
    found = key_logprob_gain(mine, others)
    assert found.value == pytest.approx(expected)
    assert found.low < expected < found.high
    if donors == 1:  # of two, the better one: a sign test
        better = sum(row[0] > row[1] for row in told)
        assert found.p == pytest.approx(binomtest(better, len(told)).pvalue)
    # A mean's interval by the normal approximation is about the bootstrap's.
    each = np.array([row[0] - np.mean(row[1 : donors + 1]) for row in told])
    reach = 1.96 * each.std(ddof=1) / math.sqrt(len(each))
    assert (found.low, found.high) == pytest.approx((expected - reach, expected + reach), abs=0.1)


def test_a_donor_of_another_length_has_no_part_in_the_gain_of_the_key() -> None:
    mine, tables, keys = some_logprobs(7)
    others = {f"q{n}": with_logprobs(key, n, tables[1][n]) for n, key in enumerate(keys)}
    longer = {name: replace(each, donor_tokens=5) for name, each in others.items() if name < "q2"}
    paired = {name: each for name, each in others.items() if name not in longer}
    assert key_logprob_gain(mine, counting({1: others | longer})) == key_logprob_gain(
        mine, counting({1: paired})
    )


def test_the_calibration_error_is_by_bins() -> None:
    mine, tables, keys = some_logprobs(8, 500)
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    sure = np.exp(tables[0]) / np.exp(tables[0]).sum(axis=1, keepdims=True)
    for row, key in zip(sure, keys, strict=True):
        bins[int(row.max() * 10)].append((row.max(), LETTERS[row.argmax()] == key))
    expected = sum(
        abs(sum(confidence for confidence, _ in each) - sum(right for _, right in each))
        for each in bins.values()
    ) / len(keys)
    found = calibration_error(mine)
    assert found.value == pytest.approx(expected)
    # Drawn question by question, with each one's own probability.
    draw = np.random.default_rng(9)
    confidence = np.array([c for each in bins.values() for c, _ in each])
    place = np.array([b for b, each in bins.items() for _ in each])
    drawn_errors = []
    for _ in range(2000):
        right = draw.random(len(confidence)) < confidence
        gaps = np.bincount(place, confidence - right, 10)
        drawn_errors.append(abs(gaps).sum() / len(confidence))
    p = np.mean(np.array(drawn_errors) >= expected - 1e-12)
    assert found.p == pytest.approx(p, abs=0.05)


def test_calibration_that_is_perfect_is_not_rejected_and_overconfidence_is() -> None:
    draw = np.random.default_rng(10)
    logits = draw.normal(size=(1000, 4)) * 2
    sure = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    keys = [LETTERS[draw.choice(4, p=row)] for row in sure]
    good = {f"q{n}": with_logprobs(key, n, logits[n]) for n, key in enumerate(keys)}
    found = calibration_error(good)
    assert found.p is not None and found.p > ALPHA and found.low == 0 < found.value < found.high
    bold = {f"q{n}": with_logprobs(key, n, 3 * logits[n]) for n, key in enumerate(keys)}
    found = calibration_error(bold)
    assert found.p == pytest.approx(1e-4) and found.low > 0.05


LETTER = st.sampled_from("ABC-")
LOGITS = st.lists(st.sampled_from([-30.0, -2.0, -0.5, 0.0]), min_size=4, max_size=4)
TRIPLES = st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("ABC"), LETTER), min_size=1)


def consistent(found: Estimate, tested: float) -> None:
    """An interval has a width, holds its number, and excludes what its p rejects."""
    if found.p is None:
        assert math.isnan(found.value)
        return
    assert found.low < found.high and found.low <= found.value <= found.high
    assert (found.p < ALPHA) == (not found.low <= tested <= found.high)


@settings(max_examples=25, deadline=None)
@given(st.lists(TRIPLES, min_size=1, max_size=3), st.sampled_from([0, 1, 2]), st.data())
def test_intervals_have_a_width_and_agree_with_their_tests(
    triples: list[list[Triple]], cluster: int, data: st.DataObject
) -> None:
    count = min(map(len, triples))
    keys = [own_key for own_key, _, _ in triples[0]]
    donors = [
        [(key, *each[1:]) for key, each in zip(keys, some[:count], strict=False)]
        for some in triples
    ]
    others = lent(*donors, cluster=cluster)
    mine = own("".join(data.draw(st.lists(LETTER, min_size=count, max_size=count))))
    pairs = pairs_of(others)
    consistent(bits_communicated(pairs), 0)
    consistent(follows_donor(pairs), 0)
    consistent(influence(mine, others), 0.03)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.lists(st.sampled_from([-30.0, -2.0, -0.5, 0.0]), min_size=4, max_size=4)] * 2
        ),
        min_size=1,
        max_size=30,
    )
)
def test_intervals_of_probabilities_have_a_width(
    rows: list[tuple[list[float], list[float]]],
) -> None:
    mine = {f"q{n}": with_logprobs("ABC"[n % 3], n, one) for n, (one, _) in enumerate(rows)}
    others = {f"q{n}": with_logprobs("ABC"[n % 3], n, two) for n, (_, two) in enumerate(rows)}
    consistent(key_logprob_gain(mine, counting({1: others})), 0)
    consistent(calibration_error(mine), 0)
