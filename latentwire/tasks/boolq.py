"""BoolQ, validation split: yes or no, by a passage (Clark et al., NAACL 2019).

The sharer alone reads the passage. Labels of the test split are not published.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from latentwire.tasks.passage import PassageExample
from latentwire.tasks.rows import Expected, HubSplit, RowFields
from latentwire.tasks.task import Example, Options, Task

SCORED = Expected(3270, 3270, "594877623a1d6076c1fa39f5da35d7779a521b67416fb0500043c18e3b063028")
HUB = ("google/boolq", "default")
_ANSWERS = {True: "yes", False: "no"}
_WORD = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_READ_AS = {"true": "yes", "false": "no"}


@dataclass(frozen=True)
class _YesNo(Task):
    """Rows: `question`, `passage`, and `answer`, true or false."""

    max_new_tokens: int = 16

    scored: ClassVar[str] = "question with an answer"

    def row_id(self, row: dict[str, Any], index: int) -> str:
        return f"{self.name}:{index}"

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        fields = RowFields(row)
        question, passage = fields.text("question"), fields.text("passage")
        key, name = fields.one_of("answer", _ANSWERS), self.row_id(row, index)
        return PassageExample(name, index, question, (), key, passage)

    def prompt_text(self, example: Example) -> str:
        question = example.question.rstrip("?")
        return f"Answer the question about the text with yes or no.\n\nQuestion: {question}?"

    def options(self, example: Example) -> Options:
        return Options("The answer is", tuple(_ANSWERS.values()), "answer yes or no")

    def extract(self, output: str) -> str | None:
        """The first yes, no, true or false."""
        found = _WORD.search(output)
        word = found[1].lower() if found else None
        return _READ_AS.get(word, word) if word else None


TASK = _YesNo(
    name="boolq",
    test=HubSplit(*HUB, "validation", "boolq/validation.jsonl", SCORED),
    training=HubSplit(*HUB, "train", "boolq/train.jsonl"),
)
