"""Milestones run in this process."""

from types import ModuleType

from latentwire.milestones.registry import load_milestone
from latentwire.parameters import Values


def run_milestone(module: ModuleType, values: Values) -> None:
    """Run the milestone that a module is, as its entry point does."""
    load_milestone(module.__name__.rpartition(".")[2]).run(values)
