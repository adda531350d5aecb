"""Completion in a shell, where argcomplete is installed: docs/commands.md."""

import argparse
import os
from typing import Any

_ASKED = "_ARGCOMPLETE"  # set by the shell's hook


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks what may come next, and end; nothing where none asks."""
    if _ASKED in os.environ:
        try:
            import argcomplete
        except ModuleNotFoundError:
            return
        argcomplete.autocomplete(parser)


def parameter_completer(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The parameters of the milestone that stands before, as NAME=; behind that, what may be there:
    of a list, after its last comma."""
    from latentwire.errors import LatentWireError
    from latentwire.milestones.registry import load_milestone
    from latentwire.pairs.load import pair_names
    from latentwire.parameters import PAIR

    try:
        parameters = load_milestone(parsed_args.entry).parameters
    except LatentWireError:
        return []
    name, equals, value = prefix.partition("=")
    if not equals:
        return [f"{parameter.name}=" for parameter in parameters]
    before = value.rpartition(",")[0]
    begun = f"{name}={before}," if before else f"{name}="
    known = {each.name: each.choices for each in parameters}
    if PAIR.name in known:
        known[PAIR.name] = pair_names()
    return [f"{begun}{choice}" for choice in known.get(name, ())]


def milestone_completer(**_: Any) -> list[str]:
    """The names of milestones."""
    from latentwire.milestones.registry import questions

    return list(questions())
