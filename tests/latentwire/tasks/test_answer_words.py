"""Exact match and F1 as SQuAD scores them, against its own rules written another way."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentwire.tasks.answer_words import exact_match, f1, normalized
from latentwire.tasks.xquad import TASK

WORDS = ["the", "a", "An", "Nile", "nile.", "river", "River,", "6½", "1,000", "O'Neil", "—", "and"]
answers = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20)


def plain_words(text: str) -> list[str]:
    """Character by character, word by word: no expression and no table."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    words, word = [], ""
    for character in [*kept, " "]:
        if character.isalnum() or character == "_":
            word += character
            continue
        words += [word] if word not in ("", "a", "an", "the") else []
        # What stands between words stays, but for white space; an article beside it goes.
        words += [] if character.isspace() else [character]
        word = ""
    return words


def slow_f1(key: str, answer: str) -> float:
    wanted, given = normalized(key).split(), normalized(answer).split()
    if not wanted or not given:
        return float(wanted == given)
    left, shared = list(wanted), 0
    for word in given:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


@given(st.lists(answers | any_text, min_size=1, max_size=3), answers | any_text)
@settings(max_examples=300, deadline=None)
def test_the_best_key_counts(keys: list[str], answer: str) -> None:
    key = "\n".join(keys)
    assert f1(key, answer) == pytest.approx(max(slow_f1(one, answer) for one in keys))
    assert exact_match(key, answer) == any(normalized(one) == normalized(answer) for one in keys)
    assert 0 <= f1(key, answer) <= 1
    if exact_match(key, answer):
        assert f1(key, answer) == 1


@given(answers | any_text)
@settings(max_examples=300, deadline=None)
def test_words_are_bare(text: str) -> None:
    assert "".join(normalized(text).split()) == "".join("".join(plain_words(text)).split())
    assert normalized(normalized(text)) == normalized(text)


@pytest.mark.parametrize(
    ("key", "answer", "exact", "score"),
    [
        ("the Nile", "Nile.", True, 1),
        ("the Nile", "The Nile river", False, 2 / 3),
        ("Nile\nthe river Nile", "river Nile!", True, 1),
        ("Nile", "Congo", False, 0),
        ("Nile river", "river Nile", False, 1),  # F1 knows no order
        ("in 1,000 AD", "1000", False, 0.5),
        ("Theatre", "atre", False, 0),  # an article within a word is none
        ("Nile Nile", "Nile", False, 2 / 3),
        ("308", None, False, 0),
        ("the", "a", True, 1),
    ],
)
def test_cases(key: str, answer: str | None, exact: bool, score: float) -> None:
    assert TASK.is_correct(key, answer) == exact
    assert TASK.score(key, answer) == pytest.approx(score)
