"""Which questions cannot be answered under a condition, and why.

A question is left unanswered for what it, the condition and the models are: a prompt that is longer
than a model's context, numbers that a codec cannot send, letters that are no tokens, logits that
are no numbers. It would be so again on any machine. Memory, disks, stores and mistakes in the code
are none of that, and nothing is recorded for them.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c.errors import C2CError
from c2c.sharer import require_readable
from latentwire.channel.codec import CodecError
from latentwire.channel.header_fields import PacketError
from latentwire.controls.registry import is_lent
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.reading import sharers_text
from latentwire.evaluation.record import source_of
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question

# Raised for numbers that a packet cannot carry, and, by what reads packets, for damaged ones: to be
# taken for a reason only around what sends.
CANNOT_SEND = (CodecError, PacketError)
NOT_FINITE = (
    "a model gave logits that are NaN or infinite; in fp16 try bf16 or fp32 (-P dtype=float32)"
)


def require_answerable(
    pair: LoadedPair, condition: Condition, question: Question, donor: Question
) -> None:
    """Unanswerable where a prompt is too long or too short for the models that read it: what can be
    seen before any model is asked. Of conditions that send a cache, and of models alone."""
    if condition.system == "sharer":
        require_room(pair.sharer, "sharer", len(question.prompts.everything))
    else:
        require_room(pair.receiver, "receiver", len(question.prompts.merging[1]))
    if condition.channel:
        source = source_of(condition.control, question, donor)
        require_aligned(question, source)
        tokens = len(source.prompts.merging[0])
        require_room(pair.sharer, "sharer", tokens)
        if pair.interface.inserts and condition.channel.keep_ratio:
            behind = tokens + len(question.prompts.receiver_ids)
            require_room(pair.receiver, "receiver", behind)
        try:
            require_readable(len(sharers_text(pair.interface, source).ids))
        except C2CError as error:
            raise Unanswerable(str(error)) from None


def asked_alike(condition: Condition) -> Hashable:
    """What `require_answerable` looks at of a condition."""
    channel, lent = condition.channel, is_lent(condition.control)
    donor = condition.donor if channel and lent else 0
    return condition.system, channel is not None, donor, bool(channel and channel.keep_ratio)


def require_aligned(question: Question, source: Question) -> None:
    """Unanswerable where a prompt could not be aligned, or has no token that could be sent."""
    for prompts in (question.prompts, source.prompts):
        if prompts.not_aligned:
            raise Unanswerable(prompts.not_aligned)
        if prompts.alignment and not prompts.alignment.sendable:
            raise Unanswerable("the message has no token that the sharer could send")


def readable(pair: LoadedPair, questions: Sequence[Question]) -> list[Question]:
    """Those whose cache can be sent, as far as prompts tell: for what is measured on a sample.

    Raises LatentWireError without any.
    """
    whole = Condition(C2C, Channel("bf16"), "matched")
    found, reason = [], None
    for question in questions:
        try:
            require_answerable(pair, whole, question, question)
            found.append(question)
        except Unanswerable as error:
            reason = error
    if not found:
        raise LatentWireError(f"none of {len(questions)} questions can be read: {reason}")
    return found


def require_room(model: PreTrainedModel, name: str, prompt_tokens: int) -> None:
    """Unanswerable for a prompt that is longer than the model's context; `name` is for the text."""
    config = model.config  # which most models have one of; to ask for that of its text is slow
    text = config.get_text_config() if config.sub_configs else config
    positions = getattr(text, "max_position_embeddings", None)
    if positions is not None and prompt_tokens > positions:
        raise Unanswerable(
            f"a prompt of {prompt_tokens} tokens is longer than the {positions} positions that the"
            f" {name} was made for"
        )


def refusal(channel: Channel, error: Exception) -> str:
    """What is recorded where a codec refuses a cache with one of CANNOT_SEND."""
    return f"{channel.codec}: {error}"


@contextmanager
def may_be_refused(channel: Channel) -> Iterator[None]:
    """Unanswerable for what the block cannot send through `channel`, or cannot read back."""
    try:
        yield
    except CANNOT_SEND as error:
        raise Unanswerable(refusal(channel, error)) from None


def finite_rows(logits: Tensor) -> Tensor:
    """Which rows of logits [..., V] are numbers throughout: bool [...]."""
    return torch.isfinite(logits.amax(-1)) & torch.isfinite(logits.amin(-1))


def require_finite(logits: Tensor) -> None:
    """Unanswerable for logits [..., V] of which some are no numbers."""
    if not bool(finite_rows(logits).all()):
        raise Unanswerable(NOT_FINITE)
