"""The one exception that means "the input is wrong", as opposed to "the code is wrong"."""

import re
import unicodedata

MOST_CHARACTERS = 1500  # of a sentence about an error, which may quote what somebody sent
# Controls (escape among them), lone surrogates, and the separators that end a line.
_ACTING = ("Cc", "Cs", "Zl", "Zp")
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class C2CError(ValueError):
    """Bad input; its text is one sentence that says what is wrong and what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


def printable(text: object, keep: str = "") -> str:
    """A text as a terminal and a log may show it: what acts on them (colours, cursor movements,
    line ends, reversed writing) is written as an escape, but what `keep` names stays."""
    whole = str(text)
    if whole.isprintable():
        return whole
    return "".join(_escape(c) if _acts(c) and c not in keep else c for c in whole)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of at most about `most` characters: a longer one without its middle."""
    if len(text) <= most:
        return text
    return f"{text[: 2 * most // 3]} ... {text[-most // 3 :]}"


def one_line(text: str) -> str:
    """A text as one printable line of bounded length."""
    return shortened(printable(re.sub(r"\s*[\r\n]+\s*", " ", text.strip())))


def _acts(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) in _ACTING


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
