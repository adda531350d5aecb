"""What each way to the receiver costs before and behind the link: batch 1, one question at a time.

Encoding and decoding a cache are measured with each codec (`codec_measurement`); here is all
else that `analysis.break_even_bandwidth` needs. Templates and tokenizers are not counted.
"""

import logging
from collections.abc import Sequence
from statistics import mean

import torch
from torch.nn.attention import sdpa_kernel
from transformers import PreTrainedModel

from c2c import receiver, sharer
from c2c.cache import KVCache
from c2c.fast_ops import fast_steps
from c2c.sections import Section, sections
from c2c.slot_cache import KERNELS
from latentwire.channel.codec import CodecError
from latentwire.channel.positions import Positions
from latentwire.channel.text_codec import encode_text
from latentwire.evaluation.baselines import MessagePrompts, Prompt
from latentwire.evaluation.device_timer import now_s
from latentwire.evaluation.latency_names import (
    BUDGETS,
    EVIDENCE_BYTES,
    EVIDENCE_READ,
    FUSE,
    LETTER_WRITE,
    RECEIVER_PREFILL,
    SHARER_PREFILL,
    coded_names,
    summary_name,
    text_names,
)
from latentwire.evaluation.loaded_pair import LoadedPair, stop_ids
from latentwire.evaluation.pipeline import as_batch, seen_of, taken_to_its_own
from latentwire.evaluation.reading import receivers_text, sharers_text
from latentwire.evaluation.text_model import TextModel
from latentwire.tasks.question import Question

log = logging.getLogger("latentwire")


def measure(pair: LoadedPair, questions: Sequence[Question]) -> dict[str, float]:
    """Means over the questions, by name, with the kernels that answer them (`engine`); the first is
    also asked once before, unmeasured."""
    prompts = MessagePrompts(pair)
    # cuDNN's attention is none of them: it prepares itself for each new length, token by token too.
    with sdpa_kernel(KERNELS), fast_steps(pair.receiver, pair.sharer):
        _once(pair, prompts, questions[0])
        rounds = [_once(pair, prompts, question) for question in questions]
    told = [name for name in rounds[0] if all(name in found for found in rounds)]
    return {name: mean(found[name] for found in rounds) for name in told}


@torch.inference_mode()
def _once(pair: LoadedPair, prompts: MessagePrompts, question: Question) -> dict[str, float]:
    _by_cache(pair, question)  # what is chosen anew for prompts of this length is not counted
    found = {**_by_cache(pair, question), **_by_text(pair, prompts, question)}
    if question.prompts.private:
        return found | _by_evidence(pair, question) | _by_summary(pair, prompts, question)
    return found | _by_letter(pair, question)


def _by_summary(pair: LoadedPair, prompts: MessagePrompts, question: Question) -> dict[str, float]:
    """The longest is written; a shorter one takes its share of that time."""
    written, reading_s, token_s = _written(pair, prompts.summary(question, max(BUDGETS)))
    return {
        summary_name(budget): 1000 * (reading_s + token_s * min(budget, len(written)))
        for budget in BUDGETS
    }


def _written(pair: LoadedPair, asked: Prompt) -> tuple[list[int], float, float]:
    """What the sharer writes, `max(BUDGETS)` tokens at most, the seconds to read what it is asked,
    and the seconds a token written."""
    began = now_s(pair.device)
    prefilled = _read(pair, pair.sharer, asked)
    read = now_s(pair.device)
    (written,) = receiver.greedy(pair.sharer, prefilled, max(BUDGETS), stop_ids(pair.sharer))
    return written, read - began, (now_s(pair.device) - read) / max(1, len(written))


def _by_evidence(pair: LoadedPair, question: Question) -> dict[str, float]:
    """Sent whole as text, and read by the receiver in place of a cache."""
    evidence = question.prompts.told
    text = str(pair.tokenizer.decode(evidence))
    everything = evidence + question.prompts.receiver_ids
    began = now_s(pair.device)
    _read(pair, pair.receiver, everything)
    return {
        EVIDENCE_READ: 1000 * (now_s(pair.device) - began),
        EVIDENCE_BYTES: float(len(encode_text(text, "utf8"))),
    }


def _by_letter(pair: LoadedPair, question: Question) -> dict[str, float]:
    """The sharer's own answer, written as far as it goes."""
    prefilled = _read(pair, pair.sharer, question.prompts.sharer_ids)
    began = now_s(pair.device)
    receiver.greedy(pair.sharer, prefilled, question.task.max_new_tokens, stop_ids(pair.sharer))
    return {LETTER_WRITE: 1000 * (now_s(pair.device) - began)}


def _by_cache(pair: LoadedPair, question: Question) -> dict[str, float]:
    text, own_text = sharers_text(pair.interface, question), receivers_text(question)
    ids, token_ids = as_batch(text.ids, pair.device), as_batch(own_text.ids, pair.device)
    seen, own_seen = seen_of(text, pair.device), seen_of(own_text, pair.device)
    began = now_s(pair.device)
    cache = sharer.read(pair.sharer, ids, seen)
    read = now_s(pair.device)
    fused_s, taken, before = 0.0, 0, None
    kept = Positions.of(text.sent)
    if aligned := question.prompts.alignment:
        sent = cache.at(torch.tensor(text.sendable, device=pair.device))
        kept, cache = taken_to_its_own(aligned, kept, sent)
    if pair.interface.inserts:
        before = pair.interface.prepare(cache, torch.arange(cache.tokens))
        fused_s = now_s(pair.device) - read

    def fuse(section: Section, own: KVCache) -> KVCache:
        nonlocal fused_s, taken
        start = now_s(pair.device)
        fused = pair.interface.merge(cache.section(taken, taken + own.tokens), own)
        taken += own.tokens
        fused_s += now_s(pair.device) - start
        return fused

    whole = sections(() if before else kept.sections, token_ids.shape[1])
    receiver.prefill(pair.receiver, token_ids, whole, fuse, before, seen=own_seen)
    ended = now_s(pair.device)
    return {
        SHARER_PREFILL: 1000 * (read - began),
        RECEIVER_PREFILL: 1000 * (ended - read - fused_s),
        FUSE: 1000 * fused_s,
    }


def _by_text(pair: LoadedPair, prompts: MessagePrompts, question: Question) -> dict[str, float]:
    """The longest text is written once; a shorter one is its beginning, as in greedy decoding.
    Evidence that the sharer alone reads is a text already."""
    written, reading_s, token_s = list(question.prompts.told), 0.0, 0.0
    writer = pair.tokenizer if question.prompts.private else pair.tokenizer_of("sharer")
    if not question.prompts.private:
        written, reading_s, token_s = _written(pair, prompts.message(question))
    found = {}
    for budget in BUDGETS:
        part = written[:budget]
        text = str(writer.decode(part, skip_special_tokens=not question.prompts.private))
        prompt = prompts.with_message(question, text)
        start = now_s(pair.device)
        _read(pair, pair.receiver, prompt)
        values = (reading_s + token_s * len(part), now_s(pair.device) - start)
        write, reading, size = text_names(budget)
        found[write], found[reading] = (1000 * seconds for seconds in values)
        found[size] = float(len(encode_text(text, "utf8")))
        found |= _by_code(pair, question, text, coded_names(budget))
    return found


def _by_code(
    pair: LoadedPair, question: Question, text: str, names: tuple[str, str, str]
) -> dict[str, float]:
    """A text coded by the receiver's own model, and read again."""
    sender, other = TextModel(pair), TextModel(pair)  # each remembers what it has coded
    context = sender.context(question)
    began = now_s(pair.device)
    packet, arrived = sender.encode(context, text)
    between = now_s(pair.device)
    try:
        read = other.decode(context, packet)
    except CodecError as error:
        read = str(error)
    if read != arrived:
        log.warning("a text coded by the receiver's model was not read as it was: it has no time")
        return {}
    times = 1000 * (between - began), 1000 * (now_s(pair.device) - between)
    return dict(zip(names, (*times, float(len(packet))), strict=True))


def _read(pair: LoadedPair, model: PreTrainedModel, prompt: Prompt) -> receiver.Prefilled:
    return receiver.read(model, torch.tensor([prompt], device=pair.device))
