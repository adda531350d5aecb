"""A trial run of some questions changes no headline, and is pale wherever it is drawn."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch

from latentwire.analysis.break_even_bytes import break_even_table, sentences, with_break_even
from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.completeness import n_sentences
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.heat_map import draw_heat_map
from latentwire.analysis.latex import latex_table
from latentwire.analysis.pictures import PALE
from latentwire.analysis.rate_distortion_figure import draw_rate_accuracy
from latentwire.analysis.run_description import description, headline

Make = Callable[..., ConditionResult]
N = 40
KEYS = "ABCD" * 10


def whole_study(condition: Make) -> list[ConditionResult]:
    """Receiver, a text and three caches, all of them asked all questions."""
    results = [
        condition(letters(20), answers=KEYS, system="receiver"),
        condition(
            letters(30),
            answers=KEYS,
            system="text",
            codec="utf8",
            message_tokens=8,
            wire_bytes=500,
        ),
    ]
    for codec, size, right in (("bf16", 16_000, 36), ("int8", 8_000, 36), ("int4", 4_000, 32)):
        where = {"codec": codec, "wire_bytes": size, "answers": KEYS}
        results.append(condition(letters(right), **where))
        results.append(condition(letters(10), control="deranged", **where))
    return [measured(result) for result in results]


def letters(right: int, n: int = N) -> str:
    """Answers to n questions, the first `right` of them right."""
    wrong = KEYS[1:] + KEYS[0]
    return (KEYS[:right] + wrong[right:])[:n]


def trial(condition: Make, n: int = 20) -> list[ConditionResult]:
    """A cache that looks better than all others, and smaller, on the first questions."""
    where = {"codec": "int2", "kv_bits": 2, "wire_bytes": 100, "total": N, "answers": KEYS[:n]}
    own = condition(letters(n, n), **where)
    return [measured(own), measured(condition(letters(0, n), control="deranged", **where))]


def measured(result: ConditionResult) -> ConditionResult:
    return replace(result, records=tuple(replace(r, elements=8000) for r in result.records))


def curve(results: list[ConditionResult]) -> pd.DataFrame:
    return with_break_even(build_curve(results), break_even_table(results, 100))


def test_a_trial_run_changes_no_headline(condition: Make) -> None:
    study = whole_study(condition)
    before, after = curve(study), curve([*study, *trial(condition)])
    done = after[after["complete"]].reset_index(drop=True)
    # Neither intervals, nor corrected p-values, nor verdicts, nor where caches overtake.
    pd.testing.assert_frame_equal(done, before)
    assert (
        headline(after) == headline(before) and headline(before)["set/non_inferior_supported"] >= 0
    )
    assert sentences(break_even_table([*study, *trial(condition)], 100)) == sentences(
        break_even_table(study, 100)
    )
    said, alone = description("m4", after, after), description("m4", before, before)
    assert "1 more are incomplete (20 of 40 questions)" in said
    assert said.split("\n\n")[1].replace(
        " 1 more are incomplete (20 of 40 questions): they stand in the table alone.", ""
    ) == alone.split("\n\n")[1]  # fmt: skip
    assert "| int2 | 1 | front | 20/40 |" in said


def test_a_gain_whose_control_was_cut_short_is_no_headline(condition: Make) -> None:
    study = whole_study(condition)[:3]  # bf16 without its control
    where = {"codec": "bf16", "wire_bytes": 16_000, "control": "deranged", "total": N}
    cut = condition(letters(5, 20), answers=KEYS[:20], **where)
    found = headline(curve([*study, measured(cut)]))
    assert "set/bf16_accuracy" in found and "set/bf16_pairing_gain" not in found
    upper, lower = draw_budget_curve(curve([*study, measured(cut)]), "set", "demo").axes
    assert [mark[0].get_alpha() for mark in upper.containers] == [1, 1]  # the text and bf16
    assert [mark[0].get_alpha() for mark in lower.containers] == [PALE]


def test_without_a_complete_condition_nothing_is_said(condition: Make) -> None:
    part = [*trial(condition), condition("AB" * 10, system="receiver", total=N)]
    text = condition("AB" * 5, system="text", codec="utf8", message_tokens=8, total=N)
    frame = curve([*part, text])
    assert headline(frame) == {"set/examples": 20.0}
    assert frame["beats_text_bytes"].isna().all()
    assert "none is complete" in description("m4", frame, frame)
    assert "Accuracy in %" not in description("m4", frame, frame)
    (said, _) = sentences(break_even_table([*part, text], 20))
    assert "answered all questions" in said and "is not said" in said
    figure = draw_budget_curve(frame, "set", "demo")
    assert not any(isinstance(patch, StepPatch) for axes in figure.axes for patch in axes.patches)


def alphas(figure: Figure) -> set[float | None]:
    return {line.get_alpha() for axes in figure.axes for line in axes.lines}


def test_incomplete_points_are_pale_and_say_their_n(condition: Make) -> None:
    study = whole_study(condition)
    frame = curve([*study, *trial(condition)])
    whole = curve(study)
    assert n_sentences(frame, "point") == [
        "n = 40 questions a point",
        "INCOMPLETE: 1 of 6 points, drawn pale (int2: n = 20)",
    ]
    curve_figure = draw_budget_curve(frame, "set", "demo")
    assert "(int2: n = 20)" in curve_figure.texts[-1].get_text().replace("\n", " ")
    rates = draw_rate_accuracy(frame, "set", "demo")
    assert "n = 40\n" in str(rates.get_suptitle()) and "(int2: n = 20)" in str(rates.get_suptitle())
    samples = {line.get_label(): line.get_alpha() for line in rates.legends[0].get_lines()}
    assert samples["int"] == 1  # int2 is of that family, and pale
    assert PALE in alphas(rates) and PALE not in alphas(draw_rate_accuracy(whole, "set", "demo"))
    # The front is that of the complete ones.
    (front,) = [p for p in curve_figure.axes[0].patches if isinstance(p, StepPatch)]
    (alone,) = [
        p
        for p in draw_budget_curve(whole, "set", "demo").axes[0].patches
        if isinstance(p, StepPatch)
    ]
    assert list(front.get_data().values) == list(alone.get_data().values)
    assert r"$^{*}$ incomplete: not all of 40 questions." in latex_table(frame)


@pytest.mark.parametrize("n", [20, 40])
def test_a_cell_of_a_trial_is_pale_with_its_n(condition: Make, n: int) -> None:
    half = condition(letters(9, n), answers=KEYS[:n], keep_ratio=0.5, wire_bytes=4000, total=N)
    frame = build_curve([*whole_study(condition), measured(half)])
    figure = draw_heat_map(frame, "set", "demo")
    pale = [
        patch
        for patch in figure.axes[0].patches
        if isinstance(patch, Rectangle) and patch.get_alpha() == PALE
    ]
    shown = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert (len(pale), "n = 20" in shown) == ((1, True) if n == 20 else (0, False))
