"""Whether a pair can read the questions that it is asked: looked at before work starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from c2c.load_model import longest_text, shortest_window
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError
from latentwire.tasks.question import Question
from latentwire.tasks.task import Example, Task

SPARE_TOKENS = 16  # where a question meets its frame, tokens may be cut otherwise


def most_tokens(configs: dict[str, Any]) -> tuple[int, str] | None:
    """Of prompt and answer, and what sets the limit, for the models that `configs` names; None
    without a limit."""
    limits = []
    for model, config in configs.items():
        if window := shortest_window(config):
            limits.append((window, f"the {model} has layers that look back {window} tokens only"))
        if longest := longest_text(config):
            limits.append((longest, f"the {model} was made for texts of {longest} tokens"))
    return min(limits, default=None)


@dataclass(frozen=True)
class Lengths:
    """How many of a set's prompts fit, and a sentence on it."""

    long: int
    prompts: int
    text: str


def lengths_of(
    task: Task,
    examples: Sequence[Example],
    tokenizer: Any,
    questions: Callable[[], Sequence[Question]],
    limit: tuple[int, str] | None,
) -> Lengths:
    """Do the prompts of a set, with an answer behind each, fit the models? `questions` tokenizes
    the set, which is only done where its longest text leaves it open."""
    fits = Lengths(0, len(examples), f"{task.name} fits")
    if limit is None:
        return fits
    most, reason = limit[0] - task.max_new_tokens, limit[1]
    # Around a question stand the same tokens; its own are no shorter than a byte. Evidence that the
    # sharer alone reads may be of any length.
    longest = max(examples, key=lambda example: _bytes(task, example))
    blank = task.blank(longest)
    frame = task.prompts(blank, tokenizer)
    own = _bytes(task, longest) - _bytes(task, blank) + SPARE_TOKENS
    if not frame.private and len(frame.receiver_ids) + own <= most:
        return fits
    lengths = [len(question.prompts.everything) for question in questions()[: len(examples)]]
    long = sum(length > most for length in lengths)
    told = (
        f"{long} of {len(lengths)} prompts of {task.name} are too long (the longest has"
        f" {max(lengths)} tokens, an answer takes up to {task.max_new_tokens} more): {reason}"
    )
    return Lengths(long, len(lengths), told) if long else fits


def _bytes(task: Task, example: Example) -> int:
    return len(task.prompt_text(example).encode())


def judge(found: Sequence[Lengths]) -> str:
    """What was found of all sets.

    Raises LatentWireError where no prompt fits, and CheckWarning where some do not.
    """
    long = [lengths.text for lengths in found if lengths.long]
    if long and all(lengths.long == lengths.prompts for lengths in found):
        raise LatentWireError("; ".join(long))
    if long:
        raise CheckWarning("; ".join(long))
    return "; ".join(lengths.text for lengths in found)
