"""One example under a condition that sends no cache, step by step: text, letter, logits; and the
receiver alone with its letter prior taken off.

    message prompt -> sharer's text -> encode -> bytes -> decode -> receiver's prompt -> answer

These are what a cache on the wire competes with, on the same axis of bytes (see `pipeline`). What
the models do is asked of `models`: one prompt at a time here, which is the definition, or known
already from batches (`ahead`), which must agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from c2c import receiver
from latentwire.channel.text import decode_text, encode_text
from latentwire.condition import MAX_NEW_TOKENS, Condition, Message
from latentwire.data.message import (
    OPTIONS,
    content_free_token_ids,
    message_prompt_token_ids,
    prompt_with_message_token_ids,
    stem_and_options,
)
from latentwire.errors import LatentWireError
from latentwire.evaluation.extract import answer_letter
from latentwire.evaluation.pair import LoadedPair, stop_ids
from latentwire.evaluation.pipeline import outcome
from latentwire.evaluation.question import Question
from latentwire.evaluation.record import Record

_FLOAT16 = np.dtype("<f2")
LETTERS = "ABCD"

Prompt = tuple[int, ...]  # token ids


class Models(Protocol):
    """What receiver and sharer (`name`) do with prompts, and the prompts of messages."""

    pair: LoadedPair
    prompts: "Prompts"

    def write(self, name: str, prompt: Prompt, tokens: int) -> list[int]:
        """What the model writes, greedily, in at most `tokens` tokens."""

    def option_logprobs(self, name: str, prompt: Prompt, options: int) -> np.ndarray:
        """See `logprobs_of`, [4]."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of messages, each worked out once: templates take longer than tokens."""

    pair: LoadedPair
    _known: dict[tuple[str, ...], Prompt] = field(default_factory=dict)

    def message(self, question: Question) -> Prompt:
        """From which the sharer writes its message."""
        key = (question.example.id,)
        if key not in self._known:
            example = question.example
            ids = message_prompt_token_ids(self.pair.tokenizer, example.question, example.choices)
            self._known[key] = tuple(ids)
        return self._known[key]

    def with_message(self, question: Question, message: str) -> Prompt:
        """What the receiver reads with a message."""
        key = (question.example.id, message)
        if key not in self._known:
            example = question.example
            ids = prompt_with_message_token_ids(
                self.pair.tokenizer, example.question, example.choices, message
            )
            self._known[key] = tuple(ids)
        return self._known[key]


class OneByOne:
    """`Models` as they are."""

    def __init__(self, pair: LoadedPair) -> None:
        self.pair, self.prompts = pair, Prompts(pair)

    def write(self, name: str, prompt: Prompt, tokens: int) -> list[int]:
        """See `Models`."""
        model = model_of(self.pair, name)
        prefilled = receiver.read(model, torch.tensor([prompt], device=self.pair.device))
        (answer,) = receiver.greedy(model, prefilled, tokens, stop_ids(model))
        return answer

    def option_logprobs(self, name: str, prompt: Prompt, options: int) -> np.ndarray:
        """See `Models`."""
        return logprobs_of(self.pair, model_of(self.pair, name), [prompt], options)[0]


def model_of(pair: LoadedPair, name: str) -> PreTrainedModel:
    """The pair's `receiver` or `sharer`."""
    return pair.receiver if name == "receiver" else pair.sharer


def evaluate(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    """Ask one question under one of `COMPETITORS`.

    `donor` is the question that the sharer reads under the control `deranged`. Raises
    LatentWireError for logits of questions with more than four options.
    """
    source = source_of(condition, question, donor)
    if condition.system == "text":
        return _by_text(models, condition, question, donor)
    if condition.system == "letter":
        return _by_letter(models, condition, question, donor)
    options = len(question.example.choices)
    own = models.option_logprobs("receiver", question.token_ids, options)
    packet = b""
    if condition.system == "logits":
        theirs = len(source.example.choices)
        packet = encode_logprobs(models.option_logprobs("sharer", source.token_ids, theirs))
        scores = own + decode_logprobs(packet)
    else:
        assert condition.system == "calibrated"
        scores = own - letter_prior(models, options)
    record = outcome(models.pair, condition, question, donor, [], len(packet))
    return _decided(record, LETTERS[int(scores[:options].argmax())])  # of equals, the first


def source_of(condition: Condition, question: Question, donor: Question) -> Question:
    """The question that the sharer reads."""
    return donor if condition.control == "deranged" else question


def send_text(models: Models, message: Message, source: Question) -> tuple[bytes, str]:
    """What crosses the wire, and the text that arrives."""
    written = models.write("sharer", models.prompts.message(source), message.tokens)
    text = str(models.pair.tokenizer.decode(written, skip_special_tokens=True))
    packet = encode_text(text, message.codec)
    return packet, decode_text(packet, message.codec)


def send_letter(models: Models, source: Question) -> str:
    """The letter that the sharer's answer yields, or ""."""
    written = models.write("sharer", source.token_ids, MAX_NEW_TOKENS)
    return answer_letter(models.pair.tokenizer.decode(written, skip_special_tokens=True)) or ""


def letter_prior(models: Models, options: int) -> np.ndarray:
    """The receiver's log-probabilities [4] of the options where the question says nothing: the
    mean probability over content-free inputs (Zhao et al. 2021, "Calibrate Before Use").

    0 for options beyond `options`, which are -inf in what it is taken from.
    """
    prompts = content_free_token_ids(models.pair.tokenizer, options)
    each = np.stack([models.option_logprobs("receiver", tuple(p), options) for p in prompts])
    prior = np.zeros(OPTIONS)
    prior[:options] = np.logaddexp.reduce(each[:, :options], axis=0) - math.log(len(prompts))
    return prior


def encode_logprobs(logprobs: np.ndarray) -> bytes:
    """Four float16, little-endian: 8 bytes."""
    return logprobs.astype(_FLOAT16).tobytes()


def decode_logprobs(data: bytes) -> np.ndarray:
    """[4] float64. Raises LatentWireError for another length, or for no numbers."""
    if len(data) != OPTIONS * _FLOAT16.itemsize:
        raise LatentWireError(
            f"log-probabilities of options are {OPTIONS * _FLOAT16.itemsize} bytes, not {len(data)}"
        )
    logprobs = np.frombuffer(data, _FLOAT16).astype(np.float64)
    if np.isnan(logprobs).any():
        raise LatentWireError("log-probabilities of options hold a value that is no number")
    return logprobs


def logprobs_of(
    pair: LoadedPair, model: PreTrainedModel, prompts: Sequence[Prompt], options: int
) -> np.ndarray:
    """Log-probabilities [B, 4] (float64) of the options among each other, of prompts of one length,
    as the answer's first token or behind its stem: log(p(letter) + p(stem) p(letter | stem)).

    -inf for options beyond the question's own.
    """
    stem, letters, alone = stem_and_options(pair.tokenizer, options)
    ids = torch.tensor([[*prompt, *stem] for prompt in prompts], device=pair.device)
    with torch.inference_mode():
        lines = model(ids, logits_to_keep=len(stem) + 1).logits.double().log_softmax(-1)
    # Written at once, or behind the whole stem: whichever a model does, its letter is seen.
    written = torch.stack([lines[:, place, token] for place, token in enumerate(stem)]).sum(0)
    either = torch.logaddexp(lines[:, 0, alone], written[:, None] + lines[:, -1, letters])
    logprobs = np.full((len(prompts), OPTIONS), -np.inf)
    logprobs[:, :options] = either.log_softmax(-1).cpu().numpy()
    return logprobs


def _by_text(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    assert condition.message is not None
    source = source_of(condition, question, donor)
    packet, received = send_text(models, condition.message, source)
    prompt = models.prompts.with_message(question, received)
    answer = models.write("receiver", prompt, MAX_NEW_TOKENS)
    record = outcome(models.pair, condition, question, donor, answer, len(packet))
    return replace(record, message=received, prompt_tokens=len(prompt))


def _by_letter(models: Models, condition: Condition, question: Question, donor: Question) -> Record:
    letter = send_letter(models, source_of(condition, question, donor))
    if letter:
        record = outcome(models.pair, condition, question, donor, [], len(letter.encode()))
        return replace(_decided(record, letter), message=letter)
    answer = models.write("receiver", question.token_ids, MAX_NEW_TOKENS)
    return replace(outcome(models.pair, condition, question, donor, answer, 0), message="")


def _decided(record: Record, predicted: str) -> Record:
    """The record of an answer that nobody wrote."""
    return replace(
        record, output=predicted, predicted=predicted, correct=predicted == record.answer
    )
