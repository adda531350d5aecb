"""The kinds of questions that a user's file may hold, each asked, read and scored as a known task.

A set of another kind than multiple choice says so behind its name (`mine:number`): by that name
alone do those who read a store know how its answers were scored.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from string import ascii_uppercase
from typing import Any, ClassVar

from latentwire.errors import LatentWireError
from latentwire.tasks.extractive import Extractive
from latentwire.tasks.gsm8k import Problem, last_number
from latentwire.tasks.multiple_choice import LETTERS, MultipleChoice, prompt_text
from latentwire.tasks.passage import with_passage
from latentwire.tasks.rows import Row, RowFields
from latentwire.tasks.task import Example, Task

BEFORE_KIND = ":"  # in a set's name
MULTIPLE_CHOICE = "multiple_choice"
_FEWEST_CHOICES = 2
# Of which the last number alone would be another one.
_SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}")
_FRACTION = re.compile(r"\d\s*[/^]\s*-?[\d.,]*\d\D*$")
# Which field says what, where the user says nothing: as the hub's sets have them.
_USUAL = {
    "id": ("id",),
    "question": ("question", "question_stem"),
    "choices": ("choices",),
    "answer": ("answerKey", "answers", "answer"),
    "context": ("context", "passage"),
}
ROLES = tuple(_USUAL)
FieldPath = str | tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """Which fields of a row are its question, choices, ...: a path (`answers.text`) each, or of
    choices one path a choice. What is not named is not there."""

    paths: tuple[tuple[str, FieldPath], ...] = ()  # role and path; tasks are keys, so no mapping
    answers_from: int = 0  # the number of the first choice, where answers are numbers

    def completed(self, rows: Sequence[Row]) -> "Named":
        """With the usual fields, as far as any row has them, for what is not named."""
        there = dict.fromkeys(key for _, row in rows if isinstance(row, dict) for key in row)
        found = {role: next((n for n in _USUAL[role] if n in there), None) for role in ROLES}
        lettered = tuple(letter for letter in ascii_uppercase if letter in there)
        if not found["choices"] and len(lettered) >= _FEWEST_CHOICES:
            found["choices"] = lettered  # type: ignore[assignment]
        usual = {role: path for role, path in found.items() if path}
        return replace(self, paths=tuple({**usual, **dict(self.paths)}.items()))

    def has(self, role: str) -> bool:
        """Whether there is a field for it."""
        return role in dict(self.paths)

    def value(self, row: dict[str, Any], role: str) -> Any:
        """What a row has there. Raises ValueError where it has nothing."""
        path = dict(self.paths).get(role)
        if path is None:
            raise ValueError(f"there is no field for its {role}")
        if isinstance(path, tuple):
            return [_at(row, each) for each in path]
        return _at(row, path)

    def text(self, row: dict[str, Any], role: str) -> str:
        """The same, which must be text."""
        return RowFields({role: self.value(row, role)}).text(role)


def _at(row: dict[str, Any], path: str) -> Any:
    if path in row:
        return row[path]
    fields, *below = path.split(".")
    value = RowFields(row).value(fields)
    for name in below:
        value = RowFields(value if isinstance(value, dict) else {}).value(name)
    return value


@dataclass(frozen=True)
class _OfFile:
    """What all kinds share: fields by the user's names, and an id or else the row's number. No task
    by itself, so that it changes nothing of the task that a kind is asked as."""

    named: Named = field(default_factory=Named)
    from_file: ClassVar[bool] = True

    def row_id(self, row: dict[str, Any], index: int) -> str:
        """The id, where rows have one; else the number of the row, from 1."""
        if not self.named.has("id"):
            return f"{index + 1}"
        value = self.named.value(row, "id")
        return str(value) if type(value) is int else self.named.text(row, "id")

    def with_context(self, example: Example, row: dict[str, Any]) -> Example:
        """The example; with what the sharer alone reads, where rows have that."""
        if not self.named.has("context"):
            return example
        return with_passage(example, self.named.text(row, "context"))


@dataclass(frozen=True)
class FileChoice(_OfFile, MultipleChoice):
    """Multiple choice of two to twenty-six options. Up to four are asked and read as the published
    protocol does; of more, the prompt names all letters, and `strict_letter` reads."""

    scored: ClassVar[str] = "question with choices and a key"

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """See `Task`. Choices are a list of texts, or the hub's `text` and `label`; the key is a
        label, a letter, a number or the text of a choice."""
        choices, labels = _choices(self.named.value(row, "choices"))
        answer = self.named.value(row, "answer")
        key = _key(self.name, answer, choices, labels, self.named.answers_from)
        name, question = self.row_id(row, index), self.named.text(row, "question")
        return self.with_context(Example(name, index, question, tuple(choices), key), row)

    def fitted(self, examples: Sequence[Example]) -> "FileChoice":
        """With the letters of the question that has most choices, four at least."""
        most = max(len(example.choices) for example in examples)
        return replace(self, letters=ascii_uppercase[: max(most, len(LETTERS))])

    def prompt_text(self, example: Example) -> str:
        """See `Task`."""
        letters = ascii_uppercase[: max(len(example.choices), len(LETTERS))]
        return prompt_text(example.question, example.choices, letters)

    def extract(self, output: str) -> str | None:
        """The letter."""
        if self.letters == LETTERS:
            return super().extract(output)
        return strict_letter(output, self.letters)


def strict_letter(text: str, letters: str) -> str | None:
    """A capital letter that stands alone, the first behind the last "answer is" or "answer:" if
    there is one; None without. The published rule takes any capital of any word in the end, which
    among many letters would always be one."""
    *before, said = re.split(r"answer is|answer:", text, flags=re.IGNORECASE)
    # "I think" and "A dog" are words; right behind "answer is", "A because" is A.
    words = "I" if before and re.match(r"\W*A\b(?!['’])", said) else "AI"
    found = re.search(rf"\b(?![{words}] [a-z])([{letters}])\b(?!['’])", said)
    return found[1] if found else None


@dataclass(frozen=True)
class FileExtractive(_OfFile, Extractive):
    """Words of a passage that the sharer alone reads; see `Extractive`."""

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """See `Task`. The answer is a text, a list of texts, or SQuAD's `answers`."""
        value = self.named.value(row, "answer")
        if isinstance(value, dict):
            value = RowFields(value, "answer.").value("text")
        answers = RowFields({"answer": [value] if isinstance(value, str) else value})
        if not (texts := answers.texts("answer")):
            raise ValueError("there is no answer")
        question, context = (self.named.text(row, role) for role in ("question", "context"))
        return self.asked(self.row_id(row, index), index, question, texts, context)


@dataclass(frozen=True)
class FileNumber(_OfFile, Problem):
    """Problems whose answer is a number, asked as GSM8K's."""

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """See `Task`. The answer is a number, or a text that ends in one."""
        number = _number(self.named.value(row, "answer"))
        name, question = self.row_id(row, index), self.named.text(row, "question")
        return self.with_context(Example(name, index, question, (), number), row)


KINDS: dict[str, Callable[..., Task]] = {
    MULTIPLE_CHOICE: FileChoice,
    "extractive": FileExtractive,
    "number": FileNumber,
}


def _number(value: Any) -> str:
    """The number that an answer is or ends in, as `Problem` spells it."""
    if type(value) in (int, float):
        value = str(value)
    text = RowFields({"answer": value}).text("answer").strip()
    if _SCIENTIFIC.fullmatch(text):
        text = f"{Decimal(text):f}"
    if _FRACTION.search(text):
        raise ValueError(f"its answer {text[:40]!r} is a fraction or a power: write a number")
    if (number := last_number(text)) is None:
        raise ValueError("its answer holds no number")
    return number


def full_name(name: str, kind: str) -> str:
    """What tables call a set."""
    return name if kind == MULTIPLE_CHOICE else f"{name}{BEFORE_KIND}{kind}"


def kind_of_name(full: str) -> str:
    """The kind that a set's name says."""
    _, _, kind = full.rpartition(BEFORE_KIND)
    return kind if BEFORE_KIND in full and kind in KINDS else MULTIPLE_CHOICE


def _choices(value: Any) -> tuple[list[str], list[str]]:
    """Texts of the choices, and their labels, none where they have none."""
    labels: list[str] = []
    if isinstance(value, dict):
        inner = RowFields(value, "choices.")
        texts, labels = inner.texts("text"), inner.texts("label")
        if len(texts) != len(labels) or len(set(labels)) < len(labels):
            raise ValueError(f"{len(texts)} choices have {len(set(labels))} different labels")
    else:
        while isinstance(value, list) and value and value[-1] in ("", None):
            value = value[:-1]  # a table's empty cells
        texts = RowFields({"choices": value}).texts("choices")
    if not _FEWEST_CHOICES <= len(texts) <= len(ascii_uppercase):
        raise ValueError(f"there are {len(texts)} choices, not 2 to 26")
    if len(set(texts)) < len(texts):
        raise ValueError("a choice stands twice")
    return texts, labels


def _key(name: str, answer: Any, choices: list[str], labels: list[str], first: int) -> str:
    """The letter of the choice that an answer names, in the set `name`."""
    if type(answer) is not int:
        answer = RowFields({"answer": answer}).text("answer").strip()
    said = str(answer)
    letters = ascii_uppercase[: len(choices)]
    # Labels say what an answer means; without any, it may be read in more ways than one.
    named = {place for place, known in enumerate(labels or choices) if known.strip() == said}
    if not labels:
        named |= {letters.index(said)} if said in tuple(letters) else set()
    if not labels and said.isascii() and said.isdecimal():
        if not named and first == 0 and said == str(len(choices)):
            # Numbers from 1 that are read as from 0 would mark all other rows wrongly.
            raise LatentWireError(
                f"{name}: an answer is number {said} of {len(choices)} choices, so they seem to be"
                " counted from 1: say `answers_from: 1` in the YAML file beside it"
            )
        # Where choices are numbers themselves, it may be the text of another one.
        named |= {int(said[:9]) - first} & set(range(len(choices)))
    if len(named) != 1:
        many = "more than one" if named else "none"
        raise ValueError(f"its answer {said[:40]!r} is {many} of its choices")
    return letters[named.pop()]
