"""Verdicts on made-up answers, with the numbers that go with them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from answers_of_conditions import by_question
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar

from latentwire.analysis.claims.claim import Claim, ClaimFile
from latentwire.analysis.claims.judge import Judgement, is_claimed, judge, judge_files
from latentwire.analysis.claims.report import WIDTH, ClaimsReport, render
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.noninferiority import Kind
from latentwire.analysis.published import read_published
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel, Condition

Make = Callable[..., ConditionResult]
INT8, BF16 = (Condition("c2c", Channel(codec), "matched") for codec in ("int8", "bf16"))


def claim(
    kind: Kind,
    margin_points: float = 0.0,
    first: Condition = INT8,
    second: Condition = BF16,
    dataset: str = "set",
) -> Claim:
    return Claim(f"{kind} {margin_points:g}", dataset, kind, margin_points, first, second)


def letters(both: int, first: int, second: int, neither: int) -> tuple[str, str]:
    """What two conditions answered, the key being A; wrong answers are spread."""
    wrong = ("BCD" * (neither + first + second))[: neither + first + second]
    one = "A" * both + "A" * first + wrong[:second] + wrong[second : second + neither]
    two = "A" * both + wrong[:first] + "A" * second + wrong[first : first + neither]
    return one, two


def results(make: Make, both: int, first: int, second: int, neither: int) -> list[ConditionResult]:
    one, two = letters(both, first, second, neither)
    return [make(one, codec="int8"), make(two, codec="bf16")]


def only(judgements: list[Judgement]) -> Judgement:
    (judgement,) = judgements
    return judgement


@pytest.mark.parametrize(
    ("kind", "margin", "table", "verdict", "note"),
    [
        ("superior", 0, (300, 60, 20, 220), "supported", None),
        ("superior", 0, (300, 20, 60, 220), "refuted", None),
        ("superior", 0, (300, 30, 25, 245), "undecided", "600 questions cannot show a difference"),
        ("superior", 0, (300, 25, 30, 245), "undecided", "No advantage is observed"),
        ("superior", 5, (300, 40, 20, 240), "undecided", "No advantage beyond 5 points"),
        ("superior", 0, (0, 5, 0, 0), "undecided", "5 questions are too few for the exact test."),
        ("non_inferior", 3, (300, 15, 15, 270), "supported", None),
        ("non_inferior", 1, (300, 5, 60, 235), "refuted", None),
        ("non_inferior", 1, (280, 10, 10, 200), "undecided", "500 questions cannot show a 1-point"),
        ("non_inferior", 5, (300, 20, 45, 235), "undecided", "the observed difference is too near"),
        ("equivalent", 5, (300, 15, 15, 270), "supported", None),
        ("equivalent", 1, (300, 60, 5, 235), "refuted", None),
        ("equivalent", 1, (300, 15, 15, 270), "undecided", "600 questions cannot show a 1-point"),
    ],
)
def test_every_verdict_and_why(
    condition: Make,
    kind: Kind,
    margin: float,
    table: tuple[int, int, int, int],
    verdict: str,
    note: str | None,
) -> None:
    judgement = only(judge([claim(kind, margin)], results(condition, *table)))
    assert judgement.verdict == verdict
    assert [each for each in judgement.notes if "flagged" not in each] == [
        each for each in judgement.notes if note and note in each
    ]
    assert (judgement.verdict == "undecided") == bool(note)
    outcomes = judgement.outcomes
    found = (outcomes.both, outcomes.only_first, outcomes.only_second, outcomes.neither)
    assert found == table
    assert judgement.examples_total == sum(table)


def test_the_words_say_how_many_questions_would_do(condition: Make) -> None:
    judgement = only(judge([claim("non_inferior", 1)], results(condition, 280, 10, 10, 200)))
    assert judgement.questions_needed == 3259
    assert judgement.notes[0] == (
        "500 questions cannot show a 1-point margin; about 3,300 would, were both equally accurate."
    )


def test_p_values_are_corrected_over_all_claims_of_the_file(condition: Make) -> None:
    answers = results(condition, 300, 35, 18, 247)
    alone = only(judge([claim("superior")], answers))
    assert (alone.verdict, alone.p_holm) == ("supported", alone.p)
    # Two claims without any answers are a part of the family as well.
    unknown = [claim("superior", first=Condition(who)) for who in ("receiver", "sharer")]
    first, *others = judge([claim("superior"), *unknown], answers)
    assert first.p == alone.p and first.p_holm == pytest.approx(3 * alone.p)
    assert first.verdict == "undecided"
    assert first.notes == ("Decided alone, but not once corrected for 3 claims (Holm).",)
    for other, who in zip(others, ("receiver", "sharer"), strict=True):
        assert (other.verdict, other.p, other.outcomes.examples) == ("undecided", 1, 0)
        assert other.notes == (f"There are no answers of {who} alone.",)
        assert math.isnan(other.interval.low) and math.isnan(other.interval.high)


def test_the_claims_conditions_are_found_among_others(condition: Make) -> None:
    one, two = letters(30, 9, 1, 20)
    wanted = Condition("c2c", Channel("int8", 0.5, "back"), "matched")
    control = Condition("c2c", Channel("int8", 0.5, "back"), "deranged")
    where = {"codec": "int8", "keep_ratio": 0.5, "order": "back"}
    answers = [
        condition(one[:40], **where, total=60),
        condition(one[30:], first=30, **where, total=60),
        condition(two, control="deranged", **where),
        condition("D" * 60, **{**where, "order": "front"}),
        condition("D" * 60, **{**where, "keep_ratio": 0.25}),
        condition("D" * 60, **{**where, "codec": "int4"}),
        condition("D" * 60, **where, dataset="another"),
        condition("D" * 60, **where, control="zero"),
        condition("D" * 60, system="receiver"),
    ]
    judgement = only(judge([claim("superior", first=wanted, second=control)], answers))
    assert (judgement.outcomes.both, judgement.outcomes.only_first) == (30, 9)
    assert (judgement.outcomes.only_second, judgement.outcomes.neither) == (1, 20)


def test_calibrations_must_be_told_apart(condition: Make) -> None:
    answers = [
        condition("AAAB", codec="kvtc1", calibration="aa"),
        condition("ABBB", codec="kvtc1", calibration="bb"),
        condition("AABB", codec="bf16"),
    ]
    unnamed = Condition("c2c", Channel("kvtc1"), "matched")
    named = Condition("c2c", Channel("kvtc1", calibration="bb"), "matched")
    first, second = judge([claim("superior", first=side) for side in (unnamed, named)], answers)
    assert first.outcomes.examples == 0
    assert "run with 2 calibrations" in first.notes[0] and "(aa, bb)" in first.notes[0]
    assert second.outcomes.difference == -0.25
    assert judge([claim("superior", first=unnamed)], answers[:1] + answers[2:])[0].outcomes.examples


def test_questions_must_be_common_and_one_letter_is_flagged(condition: Make) -> None:
    apart = [condition("BBAB", codec="int8"), condition("AAAB", codec="bf16", first=4)]
    judgement = only(judge([claim("superior")], apart))
    assert judgement.notes[0] == "The two conditions have no question in common."
    assert [note[:50] for note in judgement.notes[1:]] == [
        "c2c int8 full matched answers B to 75 % of the que",
        "c2c bf16 full matched answers A to 75 % of the que",
    ]


def test_files_are_judged_on_the_pairs_that_have_answers(condition: Make) -> None:
    answers = [
        condition("AB", codec=codec, pair=pair, dataset=dataset)
        for codec in ("int8", "bf16")
        for pair, dataset in (("one", "set"), ("two", "set"), ("two", "other"), ("demo", "other"))
    ]
    files = [
        ClaimFile("any", None, (claim("superior"),)),
        ClaimFile("own", "two", (claim("superior"), claim("superior", dataset="other"))),
        ClaimFile("absent", "three", (claim("superior"),)),
    ]
    reports = judge_files(files, answers, "local")
    assert [(report.file, report.pair) for report in reports] == [
        ("any", "one"),
        ("any", "two"),
        ("own", "two"),
    ]
    assert [judgement.outcomes.examples for judgement in reports[2].judgements] == [2, 2]
    with pytest.raises(
        LatentWireError, match=r"no finished local answers of three on set, .* claims of absent"
    ):
        judge_files(files[2:], answers, "local")


def test_trainings_are_compared_seed_by_seed(condition: Make) -> None:
    made = replace(claim("superior", second=INT8), trained=("int8", "16bit"))
    files = [ClaimFile("m5", None, (made,)), ClaimFile("other", "qwen", (made,))]
    answers = [
        condition(letters_of, codec="int8", pair=pair)
        for pair, letters_of in {
            "qwen+x+int8+seed42": "AAAA",
            "qwen+x+16bit+seed42": "ABBA",
            "qwen+x+int8+seed43": "ABAA",
            "qwen+x+16bit+seed43": "ABAA",
            "qwen+x+int4+seed42": "BBBB",  # no claim is about it, nor about the pair itself
            "qwen+x": "BBBB",
        }.items()
    ]
    reports = judge_files(files, answers, "local")
    assert [(report.file, report.pair) for report in reports] == [
        ("m5", "qwen+x+seed42"),
        ("m5", "qwen+x+seed43"),
        ("m5", "qwen+x, 2 seeds"),
    ]
    assert judge_files([replace(files[0], pair="qwen+x")], answers, "local") == reports
    first, second, both = (only(list(report.judgements)) for report in reports)
    assert (first.outcomes.only_first, first.outcomes.only_second) == (2, 0)
    assert (second.outcomes.only_first, second.outcomes.only_second) == (0, 0)
    assert (both.outcomes.examples, both.outcomes.difference) == (4, 0.25)
    assert both.verdict == "undecided" and both.interval.low < 0 < 0.25 < both.interval.high
    assert "int8 full matched trained as int8 - c2c int8 full" in render(reports, "local")
    params = {"dataset": "set", "system": "c2c", "codec": "int8", "control": "matched"}
    assert is_claimed(files, {**params, "pair": "qwen+x+16bit+seed1"})
    assert not is_claimed(files, {**params, "pair": "qwen+x"})
    assert not is_claimed(files[1:], {**params, "pair": "qwen+x+16bit+seed1"})


def test_only_what_is_claimed_is_fetched() -> None:
    file = ClaimFile("f", "one", (claim("superior", second=Condition("receiver")),))
    params = {"pair": "one", "dataset": "set", "system": "c2c", "codec": "int8"}
    assert is_claimed([file], {**params, "control": "matched"})
    receiver = {**params, "system": "receiver", "codec": "none", "control": "none"}
    assert is_claimed([file], receiver)
    for change in ({"control": "zero"}, {"codec": "int4"}, {"pair": "two"}, {"dataset": "x"}):
        assert not is_claimed([file], {**params, "control": "matched", **change})
    assert not is_claimed([file], {})


def test_published_answers_by_a_second_library(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "published_per_question.csv"
    back, front = (
        Condition("c2c", Channel("int8", 0.5, order), "matched") for order in ("back", "front")
    )
    answers = [item.result for item in read_published(shared_dir / "reference")]
    made = [
        claim("superior", first=back, second=front, dataset="arc_c"),
        claim("non_inferior", 1, dataset="arc_c"),
        claim("non_inferior", 1, dataset="openbookqa"),
    ]
    superior, arc_c, openbookqa = judge(made, answers)
    first, second = (by_question(path, "arc_c", "int8", 0.5, order) for order in ("back", "front"))
    outcomes = superior.outcomes
    assert outcomes.difference == pytest.approx(
        sum(first.values()) / len(first) - sum(second.values()) / len(second)
    )
    table = [[outcomes.both, outcomes.only_first], [outcomes.only_second, outcomes.neither]]
    assert superior.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    # With hundreds of differing questions, resampled questions say the same.
    resampled = bootstrap(
        [[first[key] - second[key] for key in first]],
        np.mean,
        method="percentile",
        n_resamples=4000,
        batch=500,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert superior.interval == pytest.approx((resampled.low, resampled.high), abs=0.004)
    assert superior.verdict == "supported"
    # int8 against 16 bits: 3 and 4 of 1150 questions differ, and 3 and 3 of 500.
    assert (arc_c.outcomes.only_first, arc_c.outcomes.only_second) == (3, 4)
    assert (openbookqa.outcomes.only_first, openbookqa.outcomes.only_second) == (3, 3)
    assert (arc_c.verdict, openbookqa.verdict) == ("supported", "undecided")
    assert "about 1,300 would" in openbookqa.notes[0]


def test_the_report_holds_every_number_and_fits_the_terminal(condition: Make) -> None:
    answers = results(condition, 280, 10, 10, 200)
    made = [claim("non_inferior", 1), claim("superior", first=Condition("receiver"))]
    judgements = judge(made, answers)
    text = render([ClaimsReport("mine.yaml", "demo", tuple(judgements))], "published")
    assert max(map(len, text.splitlines())) <= WIDTH
    flowing = " ".join(text.split())
    low, high = judgements[0].interval
    for words in (
        "mine.yaml, demo, published answers",
        "UNDECIDED non_inferior 1 set: c2c int8 full matched - c2c bf16 full matched,",
        "non-inferior within 1 point",
        "n 500 of 500, difference +0.00 points,",
        f"95 % [{100 * low:+.2f}, {100 * high:+.2f}]",
        "only the first right 10, only the second 10;",
        f"p {judgements[0].p:.2g}, Holm over 2: {judgements[0].p_holm:.2g}",
        "500 questions cannot show a 1-point margin; about 3,300 would, were both equally",
        "There are no answers of receiver alone.",
        "2 claims: 0 supported, 0 refuted, 2 undecided",
    ):
        assert words in flowing, words
    assert "needed" not in flowing  # one number of it, and only where it would decide


def of_donors(make: Make) -> list[ConditionResult]:
    """Own answers, those of three donors (one message of another length) and the receiver's."""
    draw = np.random.default_rng(5)
    own, alone, *lent = (
        "".join(draw.choice(["A", "B"], 60, p=[right, 1 - right]))
        for right in (0.7, 0.5, 0.3, 0.35, 0.4)
    )
    made = [make(each, control="deranged", donor=n) for n, each in enumerate(lent, start=1)]
    long = replace(made[0].records[0], donor_tokens=140)
    made[0] = replace(made[0], records=(long, *made[0].records[1:]))
    return [make(own), make(alone, system="receiver"), *made]


def test_a_claim_is_about_all_donors_by_the_curves_rule(condition: Make) -> None:
    answers, receiver = of_donors(condition), Condition("receiver")
    lent = replace(INT8, control="deranged")
    frame = build_curve(answers)
    (row,) = frame[frame["system"] == "c2c"].to_dict("records")
    made = [claim("superior", first=one, second=two) for one, two in ((INT8, lent), (lent, INT8))]
    gain, loss = judge(made, answers)
    harm = only(judge([claim("superior", first=receiver, second=lent)], answers))
    ends = [row[f"pairing_gain{end}"] for end in ("", "_low", "_high")]
    assert [gain.outcomes.difference, *gain.interval] == pytest.approx(ends)
    assert [-loss.outcomes.difference, -loss.interval.high, -loss.interval.low] == pytest.approx(
        ends, abs=0.01
    )
    assert gain.p == row["pairing_p"] and loss.p == pytest.approx(gain.p)
    assert (harm.outcomes.difference, harm.p) == (row["harm"], row["harm_p"])
    assert gain.notes == ("c2c int8 full deranged: the mean over 3 donors.",)
    started = replace(answers[2], donor=4, records=answers[2].records[:9])
    assert only(judge(made[:1], [*answers, started])) == replace(gain, p_holm=gain.p)


def test_a_message_of_another_length_is_left_out_on_either_side(condition: Make) -> None:
    """Also of records that do not say it: the own answers tell how long the donor's prompt is."""
    own, lent = condition("AAAAAA"), condition("BABBBB", control="deranged")
    first = replace(lent.records[0], donor_id="set:1")
    longer = replace(own.records[1], prompt_tokens=101)
    own = replace(own, records=(own.records[0], longer, *own.records[2:]))
    lent = replace(lent, records=(first, *lent.records[1:]))
    # What has been brought to another length has as many numbers as the own message.
    other, alone = replace(INT8, control="deranged"), condition("AAAAAA", system="receiver")
    sides = [(INT8, other), (other, INT8), (other, Condition("receiver"))]
    made = [claim("superior", first=one, second=two) for one, two in sides]
    found = judge(made, [own, lent, alone])
    assert [each.outcomes.examples for each in found] == [5, 5, 5]
    params = {"pair": "one", "dataset": "set", "system": "c2c", "codec": "int8"}
    assert is_claimed([ClaimFile("f", None, tuple(made[2:]))], {**params, "control": "matched"})
