"""What is asked: the contract of a task.

A task turns the rows of a dataset into examples, an example into the prompts of both models, an
output into an answer, and an answer into a score. All of that is a constant of the experiment:
accuracies compare only between runs that share it byte for byte.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from c2c.chat import chat_token_ids
from c2c.errors import C2CError
from c2c.paired_prompts import PairedPrompts
from latentwire.errors import LatentWireError
from latentwire.spec.setting import MAX_NEW_TOKENS
from latentwire.tasks.rows import RowFields, Source


@dataclass(frozen=True)
class Example:
    """One scored example. A task that needs more adds fields in a subclass."""

    id: str
    index: int  # row of the split, counted from 0 before unscored rows are dropped
    question: str
    choices: tuple[str, ...]  # in the dataset's order; none where nothing is offered
    answer: str  # the key, as `Task.score` compares it with an answer

    @property
    def evidence(self) -> str:
        """What the sharer alone reads; "" where both models read the same."""
        return ""

    @property
    def cluster(self) -> str:
        """Names its evidence; "" where it has none. Examples of one cluster get one message and
        are not independent of each other: bytes and intervals know it."""
        return hashlib.sha256(self.evidence.encode()).hexdigest()[:16] if self.evidence else ""


@dataclass(frozen=True)
class Prompts:
    """What both models read of one example, in token ids."""

    sharer_ids: tuple[int, ...]  # as each reads it alone
    receiver_ids: tuple[int, ...]
    # What they read where the sharer's cache is merged into the receiver's; None: these ids.
    alignment: PairedPrompts | None = None
    one_text: bool = False  # both read one text, each in the tokens of its own tokenizer
    not_aligned: str = ""  # why there is no alignment, where one was asked for
    # Where each reads a text of its own by a tokenizer of its own: both in the other's tokens.
    evidence_ids: tuple[int, ...] = ()  # what the sharer reads, in the receiver's
    question_ids: tuple[int, ...] = ()  # what the receiver reads, in the sharer's

    @property
    def private(self) -> bool:
        """Whether the sharer alone reads the evidence, and the receiver alone the question."""
        return not self.one_text and self.sharer_ids != self.receiver_ids

    @property
    def merging(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What sharer and receiver read where caches are merged."""
        if self.alignment:
            return self.alignment.sharer_ids, self.alignment.receiver_ids
        return self.sharer_ids, self.receiver_ids

    @property
    def everything(self) -> tuple[int, ...]:
        """What the sharer reads where it is to know all there is: the evidence, then the
        question."""
        question = self.question_ids or self.receiver_ids
        return self.sharer_ids + question if self.private else self.sharer_ids

    @property
    def told(self) -> tuple[int, ...]:
        """What the sharer reads, as the receiver would read it."""
        return self.evidence_ids or self.sharer_ids


@dataclass(frozen=True)
class Options:
    """The answers that a model chooses from, as it writes them; for baselines that read their
    log-probabilities."""

    stem: str  # what may stand before the answer
    labels: tuple[str, ...] = ()  # one for each choice, in order; none where there is no choice
    name: str = "option"  # what labels are, in a sentence that begins "each"


_AnyExample = TypeVar("_AnyExample", bound=Example)


@dataclass(frozen=True)
class Task(ABC):
    """One task: what every other part of the program knows of a dataset."""

    name: str
    test: Source  # what is scored
    training: Source  # what is never scored, to calibrate on and to train with
    validation: Source | None = None  # never scored either: what a training is judged by
    development: Source | None = None  # nor this: what is chosen by, where neither of them serves
    version: int = 1
    """In every fingerprint; raise it whenever a prompt, an answer or a score may change."""
    max_new_tokens: int = MAX_NEW_TOKENS

    metric: ClassVar[str] = "accuracy"
    """What the mean score is called: another name where scores lie between 0 and 1."""
    scored: ClassVar[str] = "example to score"
    """What a row must hold to be scored, in the sentence that there is none."""
    from_file: ClassVar[bool] = False
    """Whether its rows are a file of the user's: a malformed one is left out, and tables tell two
    contents of one name apart."""

    def row_id(self, row: dict[str, Any], index: int) -> str:
        """What names a row, scored or not. Raises ValueError where it has no such field."""
        return RowFields(row).text("id")

    @abstractmethod
    def example(self, row: dict[str, Any], index: int) -> Example | None:
        """One row (number `index` of its split) as an example; None for a row that is not scored.

        Raises ValueError with what is wrong; the caller knows the file and the line.
        """

    @abstractmethod
    def prompt_text(self, example: Example) -> str:
        """The single user message that is read, by the receiver alone where there is evidence."""

    def described(self, example: Example) -> str:
        """The bare question, with its choices where it has some: what a baseline's sharer reads
        before it writes its message, where it has no evidence. Ends its last line."""
        return example.question + "\n"

    def prompts(self, example: Example, tokenizer: Any) -> Prompts:
        """What both models read: each a whole turn of the user, so that the sharer's, with the
        receiver's behind it, is a conversation too. Evidence is the sharer's turn, as it stands.

        Raises LatentWireError as `user_turn_token_ids` does."""
        ids = tuple(user_turn_token_ids(tokenizer, self.prompt_text(example)))
        if not example.evidence:
            return Prompts(ids, ids)
        return Prompts(tuple(user_turn_token_ids(tokenizer, example.evidence, False)), ids)

    def blank(self, example: _AnyExample, text: str = "") -> _AnyExample:
        """An example of the same form that says nothing: `text` stands for the question and for
        each choice."""
        choices = (text,) * len(example.choices)
        return replace(example, id="", index=0, question=text, choices=choices, answer="")

    def options(self, example: Example) -> Options:
        """What can be answered."""
        return Options("")

    def fitted(self, examples: Sequence[Example]) -> "Task":
        """The task as all its examples need it."""
        return self

    @property
    def has_options(self) -> bool:
        """Whether its questions offer something to choose from: whether a task says what."""
        return type(self).options is not Task.options

    @abstractmethod
    def extract(self, output: str) -> str | None:
        """The answer in what a model wrote; None when it yields none."""

    def target(self, example: Example) -> str:
        """What a model that is trained on an example is to write."""
        return example.answer

    def in_format(self, output: str) -> bool:
        """Whether an output is what the prompt asks for, to the character."""
        return self.extract(output) is not None

    def score(self, key: str, answer: str | None) -> float:
        """How good an answer is, 0 to 1. Only 1 is correct; no answer is 0, and is not left out."""
        return float(answer == key)

    def is_correct(self, key: str, answer: str | None) -> bool:
        """Whether an answer counts as right, in `accuracy`: one that is good in part does not."""
        return self.score(key, answer) == 1


def user_turn_token_ids(tokenizer: Any, text: str, open_answer: bool = True) -> list[int]:
    """The token ids of one user message with the assistant's turn opened (see `c2c.chat`), or not.

    `tokenizer` is a transformers tokenizer with a chat template. No system message, thinking off;
    templates that do not know of thinking ignore the switch.

    Raises `LatentWireError` when the tokenizer has no chat template that takes it.
    """
    try:
        return chat_token_ids(tokenizer, [{"role": "user", "content": text}], open_answer)
    except C2CError as error:
        raise LatentWireError(str(error)) from None
