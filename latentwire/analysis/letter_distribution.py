"""How a condition's answers spread over the letters, and what the keys alone would give.

A condition that says one letter whatever the question can score above chance where that letter is
the commonest key: its accuracy then says nothing about what was understood.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from latentwire.evaluation.record import Record
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.task import Task

DEGENERATE_SHARE = 0.7
DEGENERATE_MARK = "!"
ENDLESS_SHARE = 0.9
DEGENERATE_NOTE = f"one letter for at least {100 * DEGENERATE_SHARE:g} % of the questions"


@dataclass(frozen=True)
class AnswerSpread:
    """The answers of one condition; shares are of all its questions, NaN without any."""

    shares: dict[str, float]  # letter -> share, for each of LETTERS
    other_share: float  # any other answer: of more options, or of a task without letters
    unparsed_share: float  # outputs that yield no letter, and questions without an answer
    top_letter: str | None  # the first of the alphabet among equally frequent ones
    top_letter_share: float  # NaN where no output yields a letter
    output_tokens_mean: float

    @property
    def degenerate(self) -> bool:
        """Whether one letter is the answer to at least DEGENERATE_SHARE of the questions."""
        return self.top_letter_share >= DEGENERATE_SHARE


def spread(records: Iterable[Record]) -> AnswerSpread:
    """Count the answers of one condition."""
    counted = list(records)
    letters = Counter(record.predicted for record in counted if record.predicted is not None)
    top = min(letters, key=lambda letter: (-letters[letter], letter), default=None)
    return AnswerSpread(
        shares={letter: ratio(letters[letter], len(counted)) for letter in LETTERS},
        other_share=ratio(
            letters.total() - sum(letters[letter] for letter in LETTERS), len(counted)
        ),
        unparsed_share=ratio(len(counted) - letters.total(), len(counted)),
        top_letter=top,
        top_letter_share=ratio(letters[top], len(counted)) if top else float("nan"),
        output_tokens_mean=ratio(sum(record.generated_tokens for record in counted), len(counted)),
    )


def at_limit(records: Iterable[Record], task: Task) -> int:
    """How many answers ran to the most tokens that the task allows."""
    return sum(record.generated_tokens >= task.max_new_tokens for record in records)


def endless(at_limit: int, examples: int, task: Task) -> str | None:
    """What is said where (nearly) all answers ran to the limit; None elsewhere."""
    if not examples or at_limit < ENDLESS_SHARE * examples:
        return None
    return (
        f"{at_limit} of {examples} answers ran to the limit of {task.max_new_tokens}"
        " tokens: it does not end its turn, or the token that ends it is not known (eos_token_id of"
        " its generation_config.json)"
    )


def in_format_share(records: Iterable[Record], task: Task) -> float:
    """The share of texts that are what the prompt asks for, to the character.

    The published rule reads a letter from many other texts: "Answer:" is an A to it. Only texts
    that a model wrote are counted: not a letter that was sent or chosen by its log-probability, and
    no question that was left unanswered. NaN without any, and where no text was kept, as of
    published answers.
    """
    written = [record for record in records if _is_written(record)]
    if not any(record.output for record in written):
        return float("nan")
    right = sum(task.in_format(record.output) for record in written)
    return ratio(right, len(written))


def _is_written(record: Record) -> bool:
    """Whether a model wrote the output; without a token, it is a letter that was decided on."""
    decided = record.generated_tokens == 0 and record.predicted is not None
    return record.unanswered is None and not decided


def letter_prior_accuracy(records: Iterable[Record]) -> float:
    """Accuracy of always answering the commonest key of the other half of the questions.

    The halves are the questions at even and at odd places in the order of the dataset; each is
    answered with the letter that is the key most often in the other (the first of the alphabet
    among equals), so no question helps to choose its own answer. This is what a receiver that
    knows how the keys are spread, and nothing else, would score. NaN for less than two questions.
    """
    keys = [record.answer for record in sorted(records, key=lambda record: record.index)]
    halves = (keys[::2], keys[1::2])
    if not all(halves):
        return float("nan")
    correct = 0
    for own, other in (halves, halves[::-1]):
        seen = Counter(other)
        correct += own.count(min(seen, key=lambda letter: (-seen[letter], letter)))
    return correct / len(keys)


def commonest_key_share(records: Iterable[Record]) -> float:
    """The share of questions that have the commonest key; NaN without any."""
    keys = Counter(record.answer for record in records)
    return ratio(max(keys.values(), default=0), keys.total())


def ratio(part: float, whole: int) -> float:
    """A share of the whole; NaN of nothing."""
    return part / whole if whole else float("nan")
