"""What a person may have meant by a name that there is not."""

from collections.abc import Iterable


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """ " (did you mean NAME?)" for the known name that is closest to what was typed; "" where none
    is close. Case, and whether words are joined by - or _, do not count."""
    from difflib import get_close_matches  # only who mistypes waits for it

    names = {_plain(name): name for name in known}
    found = get_close_matches(_plain(typed), names, n=1, cutoff=0.6)
    return f" (did you mean {names[found[0]]}?)" if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
