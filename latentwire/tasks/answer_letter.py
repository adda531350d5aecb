"""The answer letter that a model's output yields.

The rules are those of the scorer behind the published accuracies (github.com/thu-nics/C2C,
rosetta/utils/evaluate.py), kept to the letter with all their oddities: a scorer that reads one
output otherwise makes accuracies incomparable. They are a constant of the experiment.
"""

import re
from functools import cache

LETTERS = "ABCD"
"""What is read, and the keys that the published accuracies count."""

# In order of precedence. Only the first place where a phrase stands is looked at, so the longer
# phrases, though they hold shorter ones, can find a place that those did not reach.
_PHRASES = (
    "answer:",
    "your answer:",
    "the answer is",
    "correct answer is",
    "correct answer is:",
    "correct answer:",
    "jibu lako:",
    "jibu:",
    "jibu sahihi:",
    "response:",
    "choice:",
    "option:",
)
# White space after a phrase may span lines: the line that is read begins at the next visible
# character.
_AFTER_PHRASE = tuple(re.compile(rf"{phrase}\s*(.*)", re.IGNORECASE) for phrase in _PHRASES)

_ENDINGS = (
    r"\s*[.,!?:)]?\s*$",  # at the end
    r"\s*[.,!?:)]\s",  # before punctuation
    r"\b",  # alone
)

# Looked for as substrings, so "model" counts as mathematics and "incorrect" as talk of answers.
_MATHEMATICS = ("+", "-", "*", "/", "=", "^", "mod", "sqrt", "sin", "cos", "tan")
_ANSWER_WORDS = ("jibu", "answer", "choice", "option", "response", "correct", "sahihi")


def answer_letter(text: str, letters: str = LETTERS) -> str | None:
    """The answer in what a model wrote, one of `letters`; None when it yields none.

    In order: an upper-case letter after a phrase such as "the answer is"; a letter that stands
    alone at the end, or before punctuation; the last one that stands alone; the last upper-case
    A to D of any word. Standing alone does not count in what looks like mathematics and not like
    an answer.
    """
    letter = _after_phrase(text, letters)
    if letter is not None:
        return letter
    at_end, before_punctuation, alone = _patterns(letters)
    standalone = alone.findall(text)
    if not standalone:
        return next((character for character in reversed(text) if character in letters), None)
    if _looks_like_mathematics(text):
        return None
    punctuated = at_end.findall(text) or before_punctuation.findall(text)
    return (punctuated or standalone)[-1].upper()


@cache
def _patterns(letters: str) -> list[re.Pattern[str]]:
    """Letters at the end, before punctuation, and wherever they stand alone."""
    return [re.compile(rf"\b([{letters}]){ending}", re.IGNORECASE) for ending in _ENDINGS]


def _after_phrase(text: str, letters: str) -> str | None:
    for pattern in _AFTER_PHRASE:
        match = pattern.search(text)
        if match is None:
            continue
        for character in match[1]:
            if character in letters:
                return character
    return None


def _looks_like_mathematics(text: str) -> bool:
    lowered = text.lower()
    return any(sign in text for sign in _MATHEMATICS) and not any(
        word in lowered for word in _ANSWER_WORDS
    )
