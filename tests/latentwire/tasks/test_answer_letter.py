"""The letter that an output yields."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.tasks.answer_letter import answer_letter

CASES = [
    ("", None),
    (" \n\t", None),
    # A phrase, then an upper-case letter on the line that follows it.
    ("The correct answer is B", "B"),
    ("the correct answer is: C. because D", "C"),
    ("ANSWER:b or D", "D"),
    ("Answer: **A**", "A"),
    ("The answer is\n\n  D\nA", "D"),
    ("The answer is Both", "B"),  # any letter of any word
    ("Jibu: C, not a", "C"),
    ("Jibu sahihi: C", "C"),
    ("jibu lako: A", "A"),
    ("response: B. A", "B"),
    ("My choice: D, not A.", "D"),
    ("Option: A or B", "A"),
    # Phrases take precedence in their own order, not in the text's.
    ("option: A\nanswer: B", "B"),
    # Only the first place of a phrase is looked at, but a longer phrase may stand elsewhere.
    ("answer: none\nanswer: B and then a", "A"),
    ("answer: none\nyour answer: B and then a", "B"),
    ("correct answer is none\ncorrect answer is: C, not a", "C"),
    ("answer: none\ncorrect answer: B, not a", "B"),
    ("jibu: none\njibu lako: C, not a", "C"),
    ("jibu: none\njibu sahihi: C, not a", "C"),
    # Case is folded as in all of Unicode, so a dotted capital I is an i.
    ("CHO\u0130CE: B, not a", "B"),
    # A phrase without an upper-case letter on its line leaves the choice to the later steps.
    ("the answer is b", "B"),
    ("The answer is unclear\nmaybe c.", "C"),
    # A letter that stands alone at the end goes before one with punctuation, and that before any.
    ("A. is wrong, so b", "B"),
    ("A) first, B) second, then no more", "B"),
    ("it is (c) d!", "D"),
    ("B C and more", "C"),
    ("a thing", "A"),  # an article is a letter that stands alone
    ("A ! then words, D here", "A"),
    ("x B.\u3000y", "B"),
    ("B.y or c then", "C"),
    ("b \n", "B"),
    # Mathematics hides standing letters, unless the text speaks of answers.
    ("2 + 2 = B", None),
    ("x - A. ", None),
    ("the model is B", None),  # "mod" is mathematics
    ("using cosmic B", None),
    ("Mod Sin Cos B", "B"),  # only lower-case signs count
    ("2 + 2 = B is incorrect", "B"),
    ("2 + 2 = b, said RESPONSE", "B"),
    # The last upper-case letter of any word; mathematics does not hide these.
    ("Cells and DNA", "A"),
    ("1 + 1 = BaD", "D"),
    ("_B_", "B"),
    ("no letter here: xyz", None),
    # Letters of other scripts are no A to D, but they do make a word.
    ("\u0410", None),
    ("\uff21", None),
    ("\u00e9B", "B"),
    ("\u00e9b", None),
]


@pytest.mark.parametrize(("text", "letter"), CASES)
def test_rules(text: str, letter: str | None) -> None:
    assert answer_letter(text) == letter


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "=", "^", "mod", "sqrt", "sin", "cos", "tan"])
def test_every_sign_of_mathematics_hides_a_standing_letter(sign: str) -> None:
    assert answer_letter("x y B") == "B"
    assert answer_letter(f"x{sign}y B") is None


@pytest.mark.parametrize(
    "word", ["jibu", "Answer", "CHOICE", "options", "response", "incorrect", "sahihi"]
)
def test_every_word_of_answering_shows_it_again(word: str) -> None:
    assert answer_letter(f"x = y {word} b") == "B"


def test_published_scorer_is_matched_on_every_output(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "extraction_cases.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 1000
    wrong = [row for row in rows if (answer_letter(row["output"]) or "") != row["letter"]]
    assert wrong == []


fragments = st.sampled_from(
    [
        "Answer:",
        "the answer is",
        "option: ",
        "A",
        "b",
        "C.",
        "d)",
        "Bad",
        " ",
        "\n",
        "=",
        "mod",
        "é",
    ]
)


@given(st.text() | st.lists(fragments).map("".join))
def test_any_text_yields_a_letter_that_it_holds_or_none(text: str) -> None:
    letter = answer_letter(text)
    assert letter is None or (letter in "ABCD" and letter in text.upper())
    assert answer_letter(f"\n {text}\t") == letter
