"""Which milestones there are: the modules of this package that declare PARAMETERS.

A milestone is one module: a docstring whose first line says what it asks, `PARAMETERS`, and
`conditions(values)` of a grid, `run_on(session)` where it does something else, or `run(values)`
where it works on no pair. Its place on the command line, in MLproject and on a cluster follows from
these.
What takes seconds to import (torch, transformers, MLflow, pandas) is imported when it runs, so that
help texts and wrong parameters are quick: so `run_on` or `run` may stand in another module, which
`WORK` names.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from latentwire.errors import LatentWireError, quoted
from latentwire.garbage import importing
from latentwire.suggestion import did_you_mean

if TYPE_CHECKING:
    from latentwire.parameters import Parameter, Values
    from latentwire.session.session import Session

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Milestone:
    """What a milestone's module declares."""

    name: str
    description: str
    parameters: Sequence["Parameter"]
    run: Callable[["Values"], None]

    @property
    def is_shardable(self) -> bool:
        """Whether processes share its chunks; several tasks of any other would each do it all."""
        return any(parameter.name == "workers" for parameter in self.parameters)

    @property
    def trains(self) -> bool:
        """Whether processes that torchrun has started can do it together."""
        return any(parameter.name == "learning_rate" for parameter in self.parameters)


def questions() -> dict[str, str]:
    """What each milestone asks, by name. Read from the files, without importing them."""
    asked = {name: _asked(path) for name, path in _files().items()}
    return {name: question for name, question in asked.items() if question is not None}


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


@cache
def _asked(path: Path) -> str | None:
    """What the milestone in a file asks; None for a module that is none."""
    module = ast.parse(path.read_bytes())
    names = (node for node in ast.walk(module) if isinstance(node, ast.Name))
    if not any(n.id == "PARAMETERS" and isinstance(n.ctx, ast.Store) for n in names):
        return None
    return (ast.get_docstring(module) or "").partition("\n")[0]


def load_milestone(name: str) -> Milestone:
    """Import a milestone; LatentWireError where there is none of that name."""
    path = _files().get(name)
    if path is None or _asked(path) is None:  # not all files are read at every start
        raise LatentWireError(
            f"unknown entry point {quoted(name)}; known: {', '.join(questions())}"
            f"{did_you_mean(name, questions())}"
        )
    module = import_module(f"latentwire.milestones.{name}")
    return Milestone(name, module.__doc__ or "", module.PARAMETERS, partial(_run, module))


def name_of(module: ModuleType) -> str:
    """The name of the milestone that a module is."""
    return module.__name__.rpartition(".")[2]


def run_milestone(module: ModuleType, session: "Session") -> None:
    """Do a milestone on a session that is open already: what its module does, or its grid."""
    work = _work(module)
    if hasattr(work, "run_on"):
        work.run_on(session)
        return
    from latentwire.session.grid import run_grid

    run_grid(session, name_of(module), module.conditions(session.values))


def _work(module: ModuleType) -> ModuleType:
    """Where a milestone's work stands."""
    name = getattr(module, "WORK", None)
    return import_module(f"latentwire.milestones.{name}") if name else module


def _run(module: ModuleType, values: "Values") -> None:
    """Do a milestone, on a session that is opened for it if it works on a pair."""
    if "pair" not in values or hasattr(module, "run"):
        _work(module).run(values)
        return
    from latentwire.pairs.load import load_pair
    from latentwire.parameters import AUTO

    if values["pair"] != AUTO:
        load_pair(values["pair"])  # before what takes seconds to import
    with importing():
        from latentwire.session.preflight_state import open_session

        # A grid of conditions may turn out to be finished, and then needs no models.
        session = open_session(values, may_wait=hasattr(module, "conditions"))
    run_milestone(module, session)


def all_milestones() -> list[Milestone]:
    """Every milestone, imported."""
    return [load_milestone(name) for name in questions()]
