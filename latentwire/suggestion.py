"""What a person may have meant by a name that there is not, and which names there are."""

from collections.abc import Iterable

MOST_LISTED = 25  # names that a sentence lists
MOST_NEAR = 3  # that it names of more


def did_you_mean(typed: str, known: Iterable[str], most: int = 1) -> str:
    """ " (did you mean NAME?)" for the known name that is closest to what was typed, or for the
    `most` that are; "" where none is close. Case, and whether words are joined by - or _, do not
    count."""
    from difflib import get_close_matches  # only who mistypes waits for it

    names = {_plain(name): name for name in known}
    found = [names[near] for near in get_close_matches(_plain(typed), names, most, cutoff=0.6)]
    return f" (did you mean {_either(found)}?)" if found else ""


def to_run(source: str) -> str:
    """What to run where the store has no answers of a source, local or published (or both)."""
    own = "run m0, m2 or m3 first"
    published = "latentwire run published -P reference_dir=DIR"
    if source == "published":
        return f"bring them in first with {published} (docs/published.md)"
    return f"{own}, or {published} for the published study" if "published" in source else own


def known_names(typed: str, known: Iterable[str], listing: str) -> str:
    """The end of a sentence that refuses a name: those that there are or, where they are many, the
    near ones and the command that lists all."""
    names = tuple(known)
    if len(names) <= MOST_LISTED:
        return f"{did_you_mean(typed, names)}; there are {', '.join(names)}"
    return f"{did_you_mean(typed, names, MOST_NEAR)}; all {len(names)}: {listing}"


def _either(names: list[str]) -> str:
    """ "a", "a or b", "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
