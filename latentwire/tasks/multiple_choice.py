"""Multiple choice as the released fusers were trained and measured with it.

The prompt is the zero-shot, no-reasoning one of github.com/thu-nics/C2C, to the byte; answers are
read and rows are left out as its scorer does (see `answer_letter`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from latentwire.errors import LatentWireError
from latentwire.tasks.answer_letter import LETTERS, answer_letter
from latentwire.tasks.passage import with_passage
from latentwire.tasks.rows import RowFields
from latentwire.tasks.task import Example, Options, Task

ANSWER_STEM = "The correct answer is"
"""What the prompt tells a model to write before the letter. Some models follow that; some write the
letter alone, for the prompt ends with these words already."""

_BEFORE_QUESTION = "Accurately answer the following question:\n\n"
_BEFORE_CHOICES = "\n\nChoices:\n"
_AFTER_CHOICES = f"""

Instructions:
- Carefully read the question and all options.
- Select the single most correct answer.
- Respond ONLY in the following format: "{ANSWER_STEM} %s".
- Do not include any explanations, additional text, or punctuation besides the answer.

{ANSWER_STEM}"""
_ASKED_FORMAT = re.compile(rf"{re.escape(ANSWER_STEM)} [A-Z]")


@dataclass(frozen=True)
class MultipleChoice(Task):
    """Questions whose choices are lettered A, B, C, ... by position, and answered by letter.

    Rows are of the schema of allenai/openbookqa and allenai/ai2_arc: `id`, the question under
    `question_field`, `choices` with the parallel lists `text` and `label`, and `answerKey`, one of
    the labels; and of `evidence_field`, where there is one. Other fields are ignored.
    """

    question_field: str = "question"
    evidence_field: str = ""  # of what the sharer alone reads; "" where both read the same
    letters: str = LETTERS  # the keys that are scored, and what is read of an answer

    scored = f"question with a key {LETTERS[0]} to {LETTERS[-1]}"

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """See `Task`. The key is the letter under which the prompt shows the right choice.

        A row is scored when its key is one of `letters`: A to D, as in the published accuracies;
        ARC has keys 1 to 4 and E too. The protocol takes the key as it stands, while the prompt
        letters choices by position, so a scored row whose key names a choice at another position
        would be marked wrongly. The published sets hold none; one that does is refused.
        """
        fields = RowFields(row)
        example_id, question = fields.text("id"), fields.text(self.question_field)
        choices, labels = _choices(fields)
        key = fields.text("answerKey")
        if key not in labels:
            raise ValueError(f"answerKey {key!r} is not among the labels {', '.join(labels)}")
        if key not in tuple(self.letters):
            return None
        shown_as = ascii_uppercase[labels.index(key)]
        if shown_as != key:
            raise ValueError(
                f"answerKey {key!r} labels the choice that the prompt letters {shown_as} by"
                " position"
            )
        found = Example(example_id, index, question, tuple(choices), key)
        return (
            with_passage(found, fields.text(self.evidence_field)) if self.evidence_field else found
        )

    def prompt_text(self, example: Example) -> str:
        """See `prompt_text`."""
        return prompt_text(example.question, example.choices)

    def described(self, example: Example) -> str:
        """Question and lettered choices."""
        return example.question + _BEFORE_CHOICES + _lettered(example.choices)

    def options(self, example: Example) -> Options:
        """The letters of its choices."""
        letters = ascii_uppercase[: len(example.choices)]
        return Options(ANSWER_STEM, tuple(letters), f"letter A to {letters[-1:]}")

    def extract(self, output: str) -> str | None:
        """The letter by the published rule."""
        return answer_letter(output, self.letters)

    def target(self, example: Example) -> str:
        """The stem and the key, as the prompt asks for it."""
        return f"{ANSWER_STEM} {example.answer}"

    def in_format(self, output: str) -> bool:
        """Whether it is the stem and a letter; white space around it does not count."""
        return bool(_ASKED_FORMAT.fullmatch(output.strip()))


def prompt_text(question: str, choices: Sequence[str], letters: str = LETTERS) -> str:
    """The single user message for a question; it asks for one of `letters`.

    Choices are lettered A, B, C, ... by position, whatever labels the dataset gave them. Each ends
    its line, the last one too, so two blank lines stand before the instructions. Nothing follows
    the last word, not even a line end.

    Raises `LatentWireError` for no choices, or for more than there are letters.
    """
    if not 1 <= len(choices) <= len(ascii_uppercase):
        raise LatentWireError(
            f"a question needs 1 to {len(ascii_uppercase)} choices to be lettered, got "
            f"{len(choices)}: {question!r}"
        )
    # Joined rather than formatted: questions hold braces of their own.
    asked = _AFTER_CHOICES % "/".join(letters)
    return _BEFORE_QUESTION + question + _BEFORE_CHOICES + _lettered(choices) + asked


def _lettered(choices: Sequence[str]) -> str:
    return "".join(
        f"{letter}. {choice}\n" for letter, choice in zip(ascii_uppercase, choices, strict=False)
    )


def _choices(fields: RowFields) -> tuple[list[str], list[str]]:
    """The choices' texts and labels."""
    choices = fields.value("choices")
    if not isinstance(choices, dict):
        raise fields.wrong("choices", "hold text and label", choices)
    inner = RowFields(choices, within="choices.")
    texts, labels = inner.texts("text"), inner.texts("label")
    if not texts:
        raise ValueError("there are no choices")
    if len(texts) != len(labels):
        raise ValueError(f"there are {len(texts)} choices but {len(labels)} labels")
    if len(texts) > len(ascii_uppercase):
        raise ValueError(f"there are {len(texts)} choices, more than there are letters")
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label stands twice among {', '.join(labels)}")
    return texts, labels
