"""One example under a condition that sends no cache, step by step: text, letter, logits; and the
receiver alone with its letter prior taken off.

    message prompt -> sharer's text -> encode -> bytes -> decode -> receiver's prompt -> answer

These are what a cache on the wire competes with, on the same axis of bytes (see `pipeline`).
"""

import math
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedModel

from c2c import receiver
from c2c.sections import Section
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
from latentwire.evaluation.pair import LoadedPair, stop_ids
from latentwire.evaluation.pipeline import outcome
from latentwire.evaluation.question import Question
from latentwire.evaluation.record import Record

_FLOAT16 = np.dtype("<f2")
LETTERS = "ABCD"


def evaluate(pair: LoadedPair, condition: Condition, question: Question, donor: Question) -> Record:
    """Ask one question under one of `COMPETITORS`.

    `donor` is the question that the sharer reads under the control `deranged`. Raises
    LatentWireError for logits of questions with more than four options.
    """
    source = donor if condition.control == "deranged" else question
    if condition.system == "text":
        assert condition.message is not None
        return _by_text(pair, condition, condition.message, question, donor, source)
    if condition.system == "letter":
        return _by_letter(pair, condition, question, donor, source)
    own = option_logprobs(pair, pair.receiver, question)
    packet = b""
    if condition.system == "logits":
        packet = encode_logprobs(option_logprobs(pair, pair.sharer, source))
        scores = own + decode_logprobs(packet)
    else:
        assert condition.system == "calibrated"
        scores = own - letter_prior(pair, len(question.example.choices))
    predicted = _best(scores, len(question.example.choices))
    return _decided(outcome(pair, condition, question, donor, [], len(packet)), predicted)


def write_message(pair: LoadedPair, question: Question, tokens: int) -> str:
    """What the sharer writes in at most `tokens` tokens, greedily."""
    example = question.example
    ids = message_prompt_token_ids(pair.tokenizer, example.question, example.choices)
    written = _generated(pair, pair.sharer, ids, tokens)
    return str(pair.tokenizer.decode(written, skip_special_tokens=True))


def option_logprobs(pair: LoadedPair, model: PreTrainedModel, question: Question) -> np.ndarray:
    """Log-probabilities [4] (float64) of the options among each other, as the
    answer's first token or behind its stem: log(p(letter) + p(stem) p(letter | stem)).

    -inf for options beyond the question's own.
    """
    options = len(question.example.choices)
    return _logprobs(pair, model, list(question.token_ids), options)


def letter_prior(pair: LoadedPair, options: int) -> np.ndarray:
    """The receiver's log-probabilities [4] of the options where the question says nothing: the
    mean probability over content-free inputs (Zhao et al. 2021, "Calibrate Before Use").

    0 for options beyond `options`, which are -inf in what it is taken from.
    """
    prompts = content_free_token_ids(pair.tokenizer, options)
    each = np.stack([_logprobs(pair, pair.receiver, ids, options) for ids in prompts])
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


def _by_text(
    pair: LoadedPair,
    condition: Condition,
    message: Message,
    question: Question,
    donor: Question,
    source: Question,
) -> Record:
    packet = encode_text(write_message(pair, source, message.tokens), message.codec)
    received = decode_text(packet, message.codec)
    example = question.example
    ids = prompt_with_message_token_ids(pair.tokenizer, example.question, example.choices, received)
    answer = _generated(pair, pair.receiver, ids, MAX_NEW_TOKENS)
    record = outcome(pair, condition, question, donor, answer, len(packet))
    return replace(record, message=received, prompt_tokens=len(ids))


def _by_letter(
    pair: LoadedPair, condition: Condition, question: Question, donor: Question, source: Question
) -> Record:
    written = _generated(pair, pair.sharer, list(source.token_ids), MAX_NEW_TOKENS)
    letter = outcome(pair, condition, source, donor, written, 0).predicted or ""
    if letter:
        record = outcome(pair, condition, question, donor, [], len(letter.encode()))
        return replace(_decided(record, letter), message=letter)
    answer = _generated(pair, pair.receiver, list(question.token_ids), MAX_NEW_TOKENS)
    return replace(outcome(pair, condition, question, donor, answer, 0), message="")


def _decided(record: Record, predicted: str) -> Record:
    """The record of an answer that nobody wrote."""
    return replace(
        record, output=predicted, predicted=predicted, correct=predicted == record.answer
    )


def _best(scores: np.ndarray, options: int) -> str:
    """The first of the question's options with the largest score."""
    return LETTERS[int(scores[:options].argmax())]


def _generated(
    pair: LoadedPair, model: PreTrainedModel, token_ids: list[int], tokens: int
) -> list[int]:
    whole = [Section(-1, 0, len(token_ids))]
    ids = torch.tensor([token_ids], device=pair.device)
    prefilled = receiver.prefill(model, ids, whole, lambda section, own: own)
    (answer,) = receiver.greedy(model, prefilled, tokens, stop_ids(model))
    return answer


def _logprobs(
    pair: LoadedPair, model: PreTrainedModel, token_ids: list[int], options: int
) -> np.ndarray:
    stem, letters, alone = stem_and_options(pair.tokenizer, options)
    ids = torch.tensor([token_ids + stem], device=pair.device)
    with torch.inference_mode():
        lines = model(ids, logits_to_keep=len(stem) + 1).logits[0].double().log_softmax(-1)
    # Written at once, or behind the whole stem: whichever a model does, its letter is seen.
    written = torch.stack([lines[place, token] for place, token in enumerate(stem)]).sum()
    either = torch.logaddexp(lines[0, alone], written + lines[-1, letters])
    logprobs = np.full(OPTIONS, -np.inf)
    logprobs[:options] = either.log_softmax(-1).cpu().numpy()
    return logprobs
