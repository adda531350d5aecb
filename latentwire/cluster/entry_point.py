"""Milestones as a job starts them, with parameters that are known to be right."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import latentwire
from latentwire.errors import LatentWireError, quoted
from latentwire.milestones.registry import Milestone
from latentwire.pairs.load import load_pair
from latentwire.parameters import AUTO, checked
from latentwire.suggestion import known_names

SCRIPT = Path(latentwire.__file__).resolve().parents[1] / "entry_points" / "run.py"


def given_parameters(texts: Sequence[str]) -> dict[str, str]:
    """name=value texts as a mapping."""
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise LatentWireError(f"parameter {quoted(text)}: must be name=value")
        if name in given:
            raise LatentWireError(f"parameter {name} is given twice")
        given[name] = value
    return given


def require_known(entries: Sequence[Milestone], given: Mapping[str, str]) -> None:
    """Raise LatentWireError for a parameter that no milestone of these has."""
    known = {parameter.name for entry in entries for parameter in entry.parameters}
    for name in given:
        if name not in known:
            names = " and ".join(entry.name for entry in entries)
            raise LatentWireError(
                f"{names} has no parameter {quoted(name)}"
                f"{known_names(name, sorted(known), f'latentwire run {entries[0].name} --help')}"
            )


def check(entries: Sequence[Milestone], given: Mapping[str, str]) -> None:
    """Raise LatentWireError for a parameter that no milestone has, or that one would refuse."""
    if not SCRIPT.exists():
        raise LatentWireError(f"{SCRIPT} is not there: submit from a checkout's package")
    require_known(entries, given)
    for entry in entries:
        defaults = {parameter.name: parameter.default for parameter in entry.parameters}
        checked(entry.parameters, defaults | own(entry, given))
    if given.get("pair", AUTO) != AUTO:
        load_pair(given["pair"])


def own(entry: Milestone, given: Mapping[str, str]) -> dict[str, str]:
    """Those of the given parameters that the milestone takes."""
    names = {parameter.name for parameter in entry.parameters}
    return {name: value for name, value in given.items() if name in names}


def arguments(entry: Milestone, given: Mapping[str, str]) -> list[str]:
    """The script, the milestone's name and its options."""
    option = {parameter.name: parameter.option for parameter in entry.parameters}
    options = [f"{option[name]}={value}" for name, value in own(entry, given).items()]
    return [str(SCRIPT), entry.name, *options]
