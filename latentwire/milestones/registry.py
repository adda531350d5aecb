"""Which milestones there are: the modules of this package that declare PARAMETERS.

A milestone is one module: a docstring whose first line says what it asks, `PARAMETERS`, and
`run(values)`. Its place on the command line, in MLproject and on a cluster follows from these.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from latentwire.errors import LatentWireError, quoted

if TYPE_CHECKING:  # it brings torch: a list of names should not take seconds
    from latentwire.parameters import Parameter, Values

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


@cache
def questions() -> dict[str, str]:
    """What each milestone asks, by name. Read from the files: to import one takes seconds."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = ast.parse(path.read_bytes())
        names = (node for node in ast.walk(module) if isinstance(node, ast.Name))
        if any(n.id == "PARAMETERS" and isinstance(n.ctx, ast.Store) for n in names):
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return found


def load_milestone(name: str) -> Milestone:
    """Import a milestone; LatentWireError where there is none of that name."""
    if name not in questions():
        raise LatentWireError(
            f"unknown entry point {quoted(name)}; known: {', '.join(questions())}"
        )
    module = import_module(f"latentwire.milestones.{name}")
    return Milestone(name, module.__doc__ or "", module.PARAMETERS, module.run)


def all_milestones() -> list[Milestone]:
    """Every milestone, imported."""
    return [load_milestone(name) for name in questions()]
