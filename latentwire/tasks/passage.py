"""Examples of which one side has read what the other has not: a passage, a fact."""

import hashlib
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

    @property
    def cluster(self) -> str:
        """Questions about one passage are one cluster."""
        return hashlib.sha256(self.passage.encode()).hexdigest()[:16]


def with_passage(example: Example, passage: str) -> PassageExample:
    """An example whose passage is the sharer's alone."""
    return PassageExample(**vars(example), passage=passage)
