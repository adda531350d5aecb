"""An example with its prompts in tokens, and whose cache it gets under the control `deranged`."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from c2c.errors import C2CError
from c2c.paired_prompts import paired_prompts
from latentwire.errors import LatentWireError
from latentwire.tasks.task import Example, Options, Prompts, Task

NEEDS_INSERTING = (
    "the sharer alone reads the evidence, so the models' caches cannot be merged token by token;"
    " take a pair whose interface puts the message before the prompt, such as pair=self:MODEL"
)


@dataclass(frozen=True)
class Question:
    """One example of a task, ready to be asked."""

    task: Task
    example: Example
    prompts: Prompts
    tokenizers: tuple[Any, Any] | None = field(default=None, repr=False, compare=False)
    """The receiver's and the sharer's, to align prompts with."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """What both models read. LatentWireError where the sharer alone reads the evidence."""
        assert self.prompts.alignment is None and not self.prompts.one_text
        if self.prompts.private:
            raise LatentWireError(f"{self.task.name}: {NEEDS_INSERTING}")
        return self.prompts.receiver_ids

    def under(self, alignment: str) -> "Question":
        """The question as it is read under one of `c2c.paired_prompts.ALIGNMENTS`; as it is for "".
        One that cannot be aligned says why."""
        if not alignment:
            return self
        assert self.tokenizers is not None
        message = [{"role": "user", "content": self.task.prompt_text(self.example)}]
        try:
            found = paired_prompts(*self.tokenizers, alignment, message)
        except C2CError as error:
            return replace(self, prompts=replace(self.prompts, not_aligned=str(error)))
        return replace(self, prompts=replace(self.prompts, alignment=found))

    @property
    def options(self) -> Options:
        """What can be answered."""
        return self.task.options(self.example)

    def graded(self, answer: str | None) -> dict[str, Any]:
        """A record's fields that its task knows; score and cluster where they say something."""
        key = self.example.answer
        score, correct = self.task.score(key, answer), self.task.is_correct(key, answer)
        said = None if score == correct else score
        cluster = self.example.cluster or None
        return {"predicted": answer, "correct": correct, "score": said, "cluster": cluster}


def tokenize(
    task: Task, examples: Sequence[Example], tokenizer: Any, sharer_tokenizer: Any = None
) -> list[Question]:
    """Prompts of all examples, in order; `sharer_tokenizer` is given where it is another one."""
    both = tokenizer, sharer_tokenizer or tokenizer

    def prompts(example: Example) -> Prompts:
        found = task.prompts(example, tokenizer)
        if sharer_tokenizer is None:
            return found
        own = task.prompts(example, sharer_tokenizer)
        if not found.private:
            return replace(found, sharer_ids=own.sharer_ids, one_text=True)
        return Prompts(
            own.sharer_ids,
            found.receiver_ids,
            evidence_ids=found.sharer_ids,
            question_ids=own.receiver_ids,
        )

    return [Question(task, example, prompts(example), both) for example in examples]


def derange(questions: Sequence[Question], seed: int, donor: int = 1) -> list[Question]:
    """For each question another one, its donor of a number from 1, whose cache is sent in its
    place.

    Questions of one prompt length are shuffled by a hash of seed and id, and each takes the cache
    of the one so many places on, round in a ring. Where a length has too few, its questions borrow
    from the rings of the next longer lengths, one question after the other, then from those of the
    next shorter: such a cache is brought to the question's length. All donors of a question are
    distinct. Made once over the whole dataset: which chunks are evaluated changes nothing. With a
    single question there is no other, and it gets its own.

    Where the sharer alone reads the evidence, each question borrows from the first one of another
    evidence, so many places on in a ring of them all that is shuffled so: its cache keeps its own
    length. `donor` is below the number of `lenders`, or 1.
    """

    def place(index: int) -> str:
        return hashlib.sha256(f"{seed}:{questions[index].example.id}".encode()).hexdigest()

    if any(question.prompts.private for question in questions):
        return _of_other_evidence(questions, place, donor)
    rings = [sorted(group, key=place) for group in by_length(questions).values()]
    found = list(range(len(questions)))
    for rank, ring in enumerate(rings):
        if donor < len(ring):
            for index, lender in zip(ring, _turned(ring, donor), strict=True):
                found[index] = lender
        elif len(rings) > 1:
            elsewhere = [*rings[rank + 1 :], *reversed(rings[:rank])]
            lender = [index for other in elsewhere for index in other][donor - len(ring)]
            for index in ring:
                found[index] = lender
    return [questions[lender] for lender in found]


def lenders(examples: Sequence[Example]) -> int:
    """How many messages there are to lend, a question's own counted."""
    return len({example.evidence or example.id for example in examples})


def _turned(ring: Sequence[int], places: int) -> list[int]:
    return [*ring[places:], *ring[:places]]


def _of_other_evidence(
    questions: Sequence[Question], place: Callable[[int], str], donor: int
) -> list[Question]:
    first: dict[tuple[int, ...], int] = {}  # question of each evidence
    for index, question in enumerate(questions):
        first.setdefault(question.prompts.sharer_ids, index)
    ring = sorted(first.values(), key=place)
    following = dict(zip(ring, _turned(ring, donor), strict=True))
    return [questions[following[first[q.prompts.sharer_ids]]] for q in questions]


def by_length(questions: Sequence[Question]) -> dict[int, list[int]]:
    """Prompt length -> indices of the questions that have it, in order of length."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        groups[len(question.prompts.receiver_ids)].append(index)
    return dict(sorted(groups.items()))
