"""What each model reads of a question: what a message is made of, and what who answers alone reads.

An interface that merges does so token by token: both models read the same ids, or, with tokenizers
that differ, prompts that are aligned. One that inserts puts the sharer's prompt, which may be
another, before the receiver's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from latentwire.errors import LatentWireError
from latentwire.spec.condition import Condition
from latentwire.tasks.question import NEEDS_INSERTING, Question

if TYPE_CHECKING:  # it brings torch, and records are read without
    from c2c.interface import Interface


Donors = Mapping[int, Sequence[Question]]  # by number, each question's in the questions' order


class Text(NamedTuple):
    """A prompt in token ids."""

    ids: tuple[int, ...]
    pads: tuple[int, ...] = ()  # positions of padding, which has a position and is not seen
    # Of the sharer's: which tokens can be sent, ascending; None: all but the last.
    sendable: tuple[int, ...] | None = None

    @property
    def sent(self) -> Sequence[int]:
        """The positions of the tokens that can be sent."""
        return range(len(self.ids) - 1) if self.sendable is None else self.sendable


def read_alone(condition: Condition, question: Question) -> tuple[int, ...]:
    """What a model reads that gets no message: the sharer all, the receiver its own prompt."""
    prompts = question.prompts
    return prompts.everything if condition.system == "sharer" else prompts.receiver_ids


def receivers_text(question: Question) -> Text:
    """What the receiver reads where a message may come."""
    aligned = question.prompts.alignment
    if aligned:
        return Text(aligned.receiver_ids, aligned.receiver_pads)
    return Text(question.prompts.receiver_ids)


def sharers_text(interface: "Interface", source: Question) -> Text:
    """The tokens of which the sharer has the cache, and one more, which it need not read.

    That is the last of its prompt where the message is merged: the receiver reads it by itself.
    Where it is inserted, all of the prompt can be sent, and its first stands behind it once more,
    as the receiver's prompt of the same template would begin. Raises LatentWireError where the two
    prompts are different texts, which cannot be merged.
    """
    prompts = source.prompts
    if interface.inserts:
        return Text((*prompts.sharer_ids, prompts.sharer_ids[0]))
    if aligned := prompts.alignment:
        return Text(aligned.sharer_ids, aligned.sharer_pads, aligned.sendable)
    if prompts.private:
        raise LatentWireError(f"{source.task.name}: {NEEDS_INSERTING}")
    return Text(prompts.sharer_ids)


def sent_text(interface: "Interface", question: Question, source: Question) -> Text:
    """`sharers_text` of `source`, whose cache is sent for a question: as it is where it is
    inserted; where it is merged, brought to the length of the question's own (`places`)."""
    text = sharers_text(interface, source)
    if interface.inserts or source is question:
        return text
    own = sharers_text(interface, question)
    ids = tuple(text.ids[place] for place in places(text, own))
    return own._replace(ids=(*ids, text.ids[-1]), pads=())


def places(lent: Text, own: Text) -> list[int]:
    """Which token of a lent text's cache stands at each place of the question's own.

    The tokens that can be sent are brought to as many as the question has of them. Of more, those
    at the front are lost, so that the instructions, which end every prompt, stand where they
    should; of fewer, the first is put in front as often as needed. What stands elsewhere is never
    sent.
    """
    shift = len(lent.sent) - len(own.sent)
    found = [0] * (len(own.ids) - 1)
    for number, place in enumerate(own.sent):
        found[place] = lent.sent[max(0, number + shift)]
    return found
