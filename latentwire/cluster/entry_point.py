"""The project's entry points as a job starts them, with parameters that are known to be right."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import latentwire
from latentwire.errors import LatentWireError, quoted
from latentwire.pairs.load import load_pair
from latentwire.pairs.pair import require_supported
from latentwire.parameters import AUTO, Parameter, checked

ROOT = Path(latentwire.__file__).resolve().parents[1]
FOLDER = ROOT / "entry_points"

# Those whose work is chunks that are looked up in the tracking store. Several tasks of any other
# would each do all of it.
DIVIDED = ("main", "m0", "baselines", "m2", "m3")


@dataclass(frozen=True)
class EntryPoint:
    """An entry point's script and the parameters it takes."""

    name: str
    script: Path
    parameters: Sequence[Parameter]


def entry_point(name: str) -> EntryPoint:
    """The entry point of that name; LatentWireError where there is none."""
    known = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    if not known:
        raise LatentWireError(f"{FOLDER} holds no entry points: submit from a checkout's package")
    if name not in known:
        raise LatentWireError(f"unknown entry point {quoted(name)}; known: {', '.join(known)}")
    module = importlib.import_module(f"latentwire.milestones.{name}")
    return EntryPoint(name, FOLDER / f"{name}.py", module.PARAMETERS)


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


def check(entries: Sequence[EntryPoint], given: Mapping[str, str]) -> None:
    """Raise LatentWireError for a parameter that no entry point has, or that one would refuse."""
    known = {parameter.name for entry in entries for parameter in entry.parameters}
    for name in given:
        if name not in known:
            names = " and ".join(entry.name for entry in entries)
            raise LatentWireError(
                f"{names} has no parameter {quoted(name)}; it takes {', '.join(sorted(known))}"
            )
    for entry in entries:
        defaults = {parameter.name: parameter.default for parameter in entry.parameters}
        checked(entry.parameters, defaults | own(entry, given))
    if given.get("pair", AUTO) != AUTO:
        require_supported(load_pair(given["pair"]))


def own(entry: EntryPoint, given: Mapping[str, str]) -> dict[str, str]:
    """Those of the given parameters that the entry point takes."""
    names = {parameter.name for parameter in entry.parameters}
    return {name: value for name, value in given.items() if name in names}


def arguments(entry: EntryPoint, given: Mapping[str, str]) -> list[str]:
    """The script and its options."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in own(entry, given).items()]
    return [str(entry.script), *options]
