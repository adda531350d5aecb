"""What there is, by name: pairs, codecs, tasks, selectors, controls, milestones."""

import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from textwrap import wrap

from latentwire.channel.codec_names import FAMILIES
from latentwire.channel.oracles.registry import orders
from latentwire.controls.registry import CONTROLS
from latentwire.milestones.registry import questions
from latentwire.pairs.load import load_pair, pair_names
from latentwire.tasks.registry import task_names

Entry = tuple[tuple[str, ...], str]
"""Names that differ in a number alone, and what they are."""

_WIDTH = 100  # of a table, in characters
_MOST_NAMES = 44  # characters of its first column


def listed(kind: str) -> list[Entry]:
    """What there is of one of KINDS."""
    return _LISTS[kind]()


def table(entries: Sequence[Entry]) -> str:
    """Names beside what they are, in lines of at most 100 characters."""
    names = [", ".join(each) for each, _ in entries]
    width = min(_MOST_NAMES, max(map(len, names)))
    lines = (
        f"{left:<{width}}  {right}".rstrip()
        for name, (_, about) in zip(names, entries, strict=True)
        for left, right in zip_longest(
            wrap(name, width, break_on_hyphens=False), wrap(about, _WIDTH - width - 2), fillvalue=""
        )
    )
    return "\n".join(lines) + "\n"


def _pairs() -> list[Entry]:
    return [((name,), load_pair(name).description) for name in pair_names()]


def _tasks() -> list[Entry]:
    return [((name,), _first_sentence(f"latentwire.tasks.{name}")) for name in task_names()]


def _first_sentence(module: str) -> str:
    """Of a module's docstring."""
    text = " ".join((sys.modules[module].__doc__ or "").partition("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".")


_LISTS: dict[str, Callable[[], list[Entry]]] = {
    "pairs": _pairs,
    "codecs": lambda: [(family.names, family.help) for family in FAMILIES],
    "tasks": _tasks,
    "selectors": lambda: [((name,), about) for name, about in orders().items()],
    "controls": lambda: [((name,), control.title) for name, control in CONTROLS.items()],
    "milestones": lambda: [((name,), asked) for name, asked in questions().items()],
}
KINDS = tuple(_LISTS)
