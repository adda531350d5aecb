"""One example under a condition that sends no cache, step by step: text, letter, logits; and the
receiver alone with its letter prior taken off.

    message prompt -> sharer's text -> encode -> bytes -> decode -> receiver's prompt -> answer

These are what a cache on the wire competes with, on the same axis of bytes (see `pipeline`). What
the models do is asked of `models`: one prompt at a time here, which is the definition, or known
already from batches (`baselines_batched`), which must agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from c2c import receiver
from latentwire.channel.codec import CodecError
from latentwire.channel.text_codec import decode_text, encode_text, fitting
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.message import (
    content_free_token_ids,
    message_prompt_token_ids,
    prompt_with_message_token_ids,
    prompt_with_summary_token_ids,
    stem_and_options,
    summary_prompt_token_ids,
)
from latentwire.evaluation.pipeline import as_batch, written, written_record
from latentwire.evaluation.record import Record, make_record, source_of, unanswered
from latentwire.evaluation.text_model import TextModel
from latentwire.evaluation.unanswerable import NOT_FINITE, require_room
from latentwire.spec.axes import LM
from latentwire.spec.condition import Condition, Message
from latentwire.tasks.question import Question
from latentwire.tasks.task import Example, Options, Task

_FLOAT16 = np.dtype("<f2")
LEAST_SENT = 4  # log-probabilities in a packet, -inf for options that a question has not

_READ_WITH = {"text": prompt_with_message_token_ids, "summary": prompt_with_summary_token_ids}

Prompt = tuple[int, ...]  # token ids
_T = TypeVar("_T")


class Models(Protocol):
    """What receiver and sharer (`name`) do with prompts, and the prompts of messages."""

    pair: LoadedPair
    prompts: "MessagePrompts"
    text_model: TextModel

    def write(self, name: str, prompt: Prompt, tokens: int) -> list[int]:
        """What the model writes, greedily, in at most `tokens` tokens. Raises Unanswerable for a
        prompt that is longer than its context, and for logits that are no numbers."""

    def option_logprobs(self, name: str, prompt: Prompt, options: Options) -> np.ndarray:
        """See `logprobs_of`, one row of it. Raises Unanswerable as `write` does, and where labels
        are not one token each."""


@dataclass(frozen=True)
class MessagePrompts:
    """The prompts of messages, each worked out once: templates take longer than tokens."""

    pair: LoadedPair
    _known: dict[tuple[str, ...], Prompt] = field(default_factory=dict)
    _summary: dict[tuple[Prompt, int], Prompt] = field(default_factory=dict)
    _content_free: dict[tuple[Task, Example], list[Prompt]] = field(default_factory=dict)

    def message(self, question: Question) -> Prompt:
        """From which the sharer writes its message."""
        key = (question.example.id,)
        if key not in self._known:
            tokenizer = self.pair.tokenizer_of("sharer")
            self._known[key] = tuple(message_prompt_token_ids(tokenizer, question))
        return self._known[key]

    def summary(self, question: Question, tokens: int) -> Prompt:
        """From which the sharer writes a summary of its evidence. Raises Unanswerable without."""
        key = question.prompts.sharer_ids, tokens
        if key not in self._summary:
            tokenizer = self.pair.tokenizer_of("sharer")
            ids = summary_prompt_token_ids(tokenizer, question, tokens)
            self._summary[key] = tuple(ids)
        return self._summary[key]

    def with_message(self, question: Question, message: str, system: str = "text") -> Prompt:
        """What the receiver reads with a message that was sent under a system."""
        key = (question.example.id, message, system)
        if key not in self._known:
            ids = _READ_WITH[system](self.pair.tokenizer, question, message)
            self._known[key] = tuple(ids)
        return self._known[key]

    def content_free(self, question: Question) -> list[Prompt]:
        """What the receiver reads of a question of the same form that says nothing."""
        key = question.task, question.task.blank(question.example)
        if key not in self._content_free:
            found = content_free_token_ids(self.pair.tokenizer, question)
            self._content_free[key] = list(map(tuple, found))
        return self._content_free[key]


class ReferenceModels:
    """`Models` as they are."""

    def __init__(self, pair: LoadedPair) -> None:
        self.pair, self.prompts = pair, MessagePrompts(pair)
        self.text_model = TextModel(pair)

    def write(self, name: str, prompt: Prompt, tokens: int) -> list[int]:
        """See `Models`."""
        model = self.pair.model(name)
        require_room(model, name, len(prompt))
        return written(model, receiver.read(model, as_batch(prompt, self.pair.device)), tokens)

    def option_logprobs(self, name: str, prompt: Prompt, options: Options) -> np.ndarray:
        """See `Models`."""
        model = self.pair.model(name)
        require_room(model, name, len(prompt))
        return or_raised(logprobs_of(self.pair, name, [prompt], options)[0])


def evaluate(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    """Ask one question under one of `BASELINES`.

    `donor` is the question that the sharer reads under a control that lends a message. A question
    that cannot be answered under the condition gets the record of that.
    """
    try:
        return _BY_SYSTEM[condition.system](models, condition, question, donor)
    except Unanswerable as reason:
        return unanswered(condition, question, donor, str(reason))


def _by_logits(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    source = source_of(condition.control, question, donor)
    require_asked(source)
    own = _own_logprobs(models, question)
    theirs = models.option_logprobs("sharer", source.prompts.sharer_ids, source.options)
    packet = encode_logprobs(theirs)
    scores = own + fitted(decode_logprobs(packet), len(own))
    best = _best(question, scores)
    return make_record(condition, question, donor, best, output=best, wire_bytes=len(packet))


def _without_prior(
    models: Models, condition: Condition, question: Question, donor: Question
) -> Record:
    scores = _own_logprobs(models, question) - letter_prior(models, question)
    best = _best(question, scores)
    return make_record(condition, question, donor, best, output=best)


def _own_logprobs(models: Models, question: Question) -> np.ndarray:
    return models.option_logprobs("receiver", question.prompts.receiver_ids, question.options)


def _best(question: Question, scores: np.ndarray) -> str:
    """The option with the highest score; of equals, the first."""
    labels = question.options.labels
    return labels[int(scores[: len(labels)].argmax())]


class Sent(NamedTuple):
    """A text on its way: what crosses the wire, what arrives, and characters that did not fit."""

    packet: bytes
    text: str
    cut_characters: int


def send_text(models: Models, message: Message, source: Question, system: str = "text") -> Sent:
    """Send what the sharer has to say of a question; Unanswerable for a text too long to send.

    The sharer writes it; evidence that it alone reads is sent itself, cut after as many tokens, or
    summed up in as many. Under a budget in bytes, the text's beginning goes that fits.
    """
    text, most = written_text(models, message, source, system), message.budget_bytes
    try:
        if message.codec == LM:
            coder = models.text_model
            packet, received = coder.encode(coder.context(source), text, most)
        else:
            packet = encode_text(
                fitting(text, message.codec, most) if most else text, message.codec
            )
            received = decode_text(packet, message.codec)
    except CodecError as error:
        raise Unanswerable(str(error)) from None
    return Sent(packet, received, len(text) - len(received))


def written_text(models: Models, message: Message, source: Question, system: str) -> str:
    """The text itself, before a budget in bytes cuts it."""
    tokenizer = models.pair.tokenizer_of("sharer")
    if system == "summary":
        prompt = models.prompts.summary(source, message.tokens)
        written = models.write("sharer", prompt, message.tokens)
        return str(tokenizer.decode(written, skip_special_tokens=True)).strip()
    if source.prompts.private:  # as the receiver will read it, control tokens and all
        return str(models.pair.tokenizer.decode(source.prompts.told[: message.tokens]))
    written = models.write("sharer", models.prompts.message(source), message.tokens)
    return str(tokenizer.decode(written, skip_special_tokens=True))


def send_letter(models: Models, source: Question) -> str:
    """The letter (or other answer) that the sharer's output yields, or ""."""
    require_asked(source)
    written = models.write("sharer", source.prompts.sharer_ids, source.task.max_new_tokens)
    output = models.pair.tokenizer_of("sharer").decode(written, skip_special_tokens=True)
    return source.task.extract(output) or ""


def require_asked(source: Question) -> None:
    """Unanswerable where the sharer has read evidence and no question: it has no answer to send."""
    if source.prompts.private:
        raise Unanswerable(
            "the sharer reads the evidence alone and has no answer that it could send"
        )


def letter_prior(models: Models, question: Question) -> np.ndarray:
    """The receiver's log-probabilities [N] of the options where the question says nothing: the
    mean probability over content-free inputs (Zhao et al. 2021, "Calibrate Before Use").

    N is as of `logprobs_of`; 0 beyond the options, where what it is taken from is -inf.
    """
    prompts, options = models.prompts.content_free(question), question.options
    each = np.stack([models.option_logprobs("receiver", p, options) for p in prompts])
    prior, count = np.zeros(each.shape[1]), len(options.labels)
    prior[:count] = np.logaddexp.reduce(each[:, :count], axis=0) - math.log(len(prompts))
    return prior


def encode_logprobs(logprobs: np.ndarray) -> bytes:
    """A float16 each, little-endian: 8 bytes for up to four options, 2 more for each further."""
    return logprobs.astype(_FLOAT16).tobytes()


def decode_logprobs(data: bytes) -> np.ndarray:
    """[N] float64, N of 4 or more. Raises LatentWireError for another length, or for no numbers."""
    sent, rest = divmod(len(data), _FLOAT16.itemsize)
    if rest or sent < LEAST_SENT:
        raise LatentWireError(
            f"log-probabilities of options are 2 bytes each, of {LEAST_SENT} or more, not"
            f" {len(data)} bytes"
        )
    logprobs = np.frombuffer(data, _FLOAT16).astype(np.float64)
    if np.isnan(logprobs).any():
        raise LatentWireError("log-probabilities of options hold a value that is no number")
    return logprobs


def fitted(logprobs: np.ndarray, options: int) -> np.ndarray:
    """Another question's log-probabilities for a question of `options` options: those of further
    options are dropped, and options that it has not are -inf."""
    kept = logprobs[:options]
    return np.pad(kept, (0, options - len(kept)), constant_values=-np.inf)


def logprobs_of(
    pair: LoadedPair, name: str, prompts: Sequence[Prompt], options: Options
) -> list[np.ndarray | Unanswerable]:
    """A model's log-probabilities [N] (float64) of the options among each other, of each of some
    prompts of one length, as the answer's first token or behind its stem: log(p(label) + p(stem)
    p(label | stem)); or why there are none.

    N is the number of options, four at least; -inf for options beyond the question's own. Raises
    Unanswerable where labels are not one token each.
    """
    model = pair.model(name)
    stem, labels, alone = stem_and_options(pair.tokenizer_of(name), options)
    ids = torch.tensor([[*prompt, *stem] for prompt in prompts], device=pair.device)
    with torch.inference_mode():
        lines = model(ids, logits_to_keep=len(stem) + 1).logits.double().log_softmax(-1)
    # Written at once, or behind the whole stem: whichever a model does, its answer is seen.
    written = torch.stack([lines[:, place, token] for place, token in enumerate(stem)]).sum(0)
    either = torch.logaddexp(lines[:, 0, alone], written[:, None] + lines[:, -1, labels])
    logprobs = np.full((len(prompts), max(LEAST_SENT, len(labels))), -np.inf)
    logprobs[:, : len(labels)] = either.log_softmax(-1).cpu().numpy()
    return [Unanswerable(NOT_FINITE) if np.isnan(line).any() else line for line in logprobs]


def or_raised(found: _T | Unanswerable) -> _T:
    """What was found; raised anew where that is a reason, for each who asks."""
    if isinstance(found, Unanswerable):
        raise Unanswerable(str(found))
    return found


def _by_text(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    assert condition.message is not None
    source = source_of(condition.control, question, donor)
    sent = send_text(models, condition.message, source, condition.system)
    prompt = models.prompts.with_message(question, sent.text, condition.system)
    answer = models.write("receiver", prompt, question.task.max_new_tokens)
    told: dict[str, Any] = {"message": sent.text, "prompt_tokens": len(prompt)}
    if most := condition.message.budget_bytes:
        told |= {"budget_bytes": most, "cut_characters": sent.cut_characters or None}
    return written_record(models.pair, condition, question, donor, answer, len(sent.packet), **told)


def _by_letter(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    letter = send_letter(models, source_of(condition.control, question, donor))
    if letter:
        told = {"output": letter, "message": letter, "wire_bytes": len(letter.encode())}
        return make_record(condition, question, donor, letter, **told)
    prompt = question.prompts.receiver_ids
    answer = models.write("receiver", prompt, question.task.max_new_tokens)
    return written_record(models.pair, condition, question, donor, answer, 0, message="")


# The systems that compete with caches, each with what answers under it.
_BY_SYSTEM = {
    "calibrated": _without_prior,
    "letter": _by_letter,
    "logits": _by_logits,
    "summary": _by_text,
    "text": _by_text,
}
