"""Examples of which one side has read what the other has not: a passage, a fact."""

from dataclasses import dataclass

from latentwire.tasks.task import Example


@dataclass(frozen=True)
class PassageExample(Example):
    """One whose passage the sharer reads, while the receiver reads the question."""

    passage: str

    @property
    def evidence(self) -> str:
        """See `Example`."""
        return self.passage


def with_passage(example: Example, passage: str) -> PassageExample:
    """An example whose passage is the sharer's alone."""
    return PassageExample(**vars(example), passage=passage)
