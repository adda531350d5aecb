"""Answers in words, compared as SQuAD's own scorer does (P. Rajpurkar et al., EMNLP 2016): without
case, punctuation and articles, with the key that fits best."""

import re
from collections import Counter
from string import punctuation

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", punctuation)
BETWEEN_KEYS = "\n"  # a text that holds several keys, any of which is right


def normalized(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and more than one space between words."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact_match(keys: str, answer: str | None) -> bool:
    """Whether an answer is one of the keys, word for word."""
    if answer is None:
        return False
    return any(normalized(key) == normalized(answer) for key in keys.split(BETWEEN_KEYS))


def f1(keys: str, answer: str | None) -> float:
    """The harmonic mean of the shares of words, of the answer and of a key, that the other holds
    too; of the best key."""
    if answer is None:
        return 0.0
    return max(_f1(normalized(key), normalized(answer)) for key in keys.split(BETWEEN_KEYS))


def _f1(key: str, answer: str) -> float:
    wanted, given = key.split(), answer.split()
    common = (Counter(wanted) & Counter(given)).total()
    # Of an answer without words too: the scorer's rule is 0 for it unless the key has none either.
    if not common:
        return float(wanted == given)
    return 2 * common / (len(wanted) + len(given))
