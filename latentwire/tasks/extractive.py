"""Questions that words of a passage answer; the sharer alone reads the passage.

Rows are of SQuAD's schema on the hub: `id`, `context`, `question` and `answers` with the list
`text`. One without an answer is not scored.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from latentwire.tasks.answer_words import BETWEEN_KEYS, exact_match, f1
from latentwire.tasks.passage import PassageExample
from latentwire.tasks.rows import RowFields
from latentwire.tasks.task import Example, Task

MOST_ANSWER_TOKENS = 32
_ASK = """Answer the question about the text in as few words of the text as possible. Write these \
words and nothing else.

Question: """
_BEFORE_ANSWER = "answer:"


@dataclass(frozen=True)
class Extractive(Task):
    """Scored by F1; exact match is what counts as right."""

    max_new_tokens: int = MOST_ANSWER_TOKENS

    metric: ClassVar[str] = "F1"
    scored: ClassVar[str] = "question with an answer"

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """See `Task`. The key holds all answers that count as right, a line each."""
        fields = RowFields(row)
        answers = fields.within("answers").texts("text")
        passage, question = fields.text("context"), fields.text("question")
        return self.asked(fields.text("id"), index, question, answers, passage)

    def asked(
        self, name: str, index: int, question: str, answers: list[str], passage: str
    ) -> Example | None:
        """An example of these fields; None without an answer."""
        keys = BETWEEN_KEYS.join(dict.fromkeys(" ".join(answer.split()) for answer in answers))
        return PassageExample(name, index, question, (), keys, passage) if keys else None

    def prompt_text(self, example: Example) -> str:
        """What the receiver reads."""
        return _ASK + example.question

    def extract(self, output: str) -> str | None:
        """The first line with something on it, without "Answer:"."""
        line = next((line.strip() for line in output.splitlines() if line.strip()), "")
        if line.lower().startswith(_BEFORE_ANSWER):
            line = line[len(_BEFORE_ANSWER) :].strip()
        return line or None

    def target(self, example: Example) -> str:
        """The first of the answers."""
        return example.answer.split(BETWEEN_KEYS)[0]

    def score(self, key: str, answer: str | None) -> float:
        """F1, of the best key."""
        return f1(key, answer)

    def is_correct(self, key: str, answer: str | None) -> bool:
        """Whether it is one of the keys, word for word."""
        return exact_match(key, answer)
