"""What each model reads of a question: what a message is made of, and what who answers alone reads.

An interface that merges does so token by token: both models read the same ids. One that inserts
puts the sharer's prompt, which may be another, before the receiver's.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question

if TYPE_CHECKING:  # it brings torch, and records are read without
    from c2c.interface import Interface


def read_alone(condition: Condition, question: Question) -> tuple[int, ...]:
    """What a model reads that gets no message: the sharer all, the receiver its own prompt."""
    prompts = question.prompts
    return prompts.everything if condition.system == "sharer" else prompts.receiver_ids


def sharers_text(interface: "Interface", source: Question) -> tuple[int, ...]:
    """The token ids of which the sharer has the cache, and one more, which it need not read.

    That is the last of its prompt where the message is merged: the receiver reads it by itself.
    Where it is inserted, all of the prompt can be sent, and one more begins the receiver's.
    """
    prompts = source.prompts
    return (
        (*prompts.sharer_ids, prompts.receiver_ids[0]) if interface.inserts else prompts.sharer_ids
    )


def sent_text(interface: "Interface", question: Question, source: Question) -> tuple[int, ...]:
    """`sharers_text` of `source`, whose cache is sent for a question: as it is where it is
    inserted; where it is merged, brought to the length of the question's own prompt."""
    text = sharers_text(interface, source)
    return text if interface.inserts else fitted_prompt(text, len(question.token_ids))


def fitted_prompt(prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Token ids brought to `tokens` of them as `pipeline.fitted` does it with their cache."""
    ids = tuple(prompt)
    return ids[:1] * (tokens - len(ids)) + ids[max(0, len(ids) - tokens) :]
