"""One example under one condition, step by step: the definition of every number we report.

    prompt -> sharer's cache -> select -> encode -> packet -> decode -> fuse -> receiver -> answer

An interface that merges does so into the cache of the receiver's own prompt, token by token: both
models read the same. One that inserts puts what arrived before the receiver's prompt, which may be
another: the sharer's whole prompt can be sent, every token keeps its position, and the receiver's
prompt stands behind the whole of it, however few of its tokens arrived. Such a message is of the
sharer's prompt alone: questions on one evidence get the same bytes, which `engine` makes once.

`engine` does the same for many examples and conditions at once and must agree with this page.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c import receiver, sharer
from c2c.cache import KVCache, concatenate
from c2c.interface import Interface
from c2c.receiver import Prefilled
from c2c.sections import Section, sections
from latentwire.channel.layout import Layout
from latentwire.channel.packet import MOST_TOKENS
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import select
from latentwire.controls.registry import CONTROLS
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation.loaded_pair import LoadedPair, stop_ids
from latentwire.evaluation.reading import read_alone, sent_text, sharers_text
from latentwire.evaluation.record import Record, make_record, source_of, unanswered
from latentwire.evaluation.unanswerable import (
    may_be_refused,
    require_answerable,
    require_finite,
)
from latentwire.spec.axes import BASELINES
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question


def evaluate(pair: LoadedPair, condition: Condition, question: Question, donor: Question) -> Record:
    """Ask one question under one condition.

    `donor` is the question whose cache is sent under a control that lends one. A question that
    cannot be answered under the condition gets the record of that.
    """
    if condition.system in BASELINES:
        raise LatentWireError(f"{condition.label}: its definition is in baselines")
    try:
        return _answered(pair, condition, question, donor)
    except Unanswerable as reason:
        return unanswered(condition, question, donor, str(reason))


def _answered(
    pair: LoadedPair, condition: Condition, question: Question, donor: Question
) -> Record:
    require_answerable(pair, condition, question, donor)
    packet, name = b"", "sharer" if condition.system == "sharer" else "receiver"
    answering = pair.model(name)
    if condition.channel:
        packet = send(pair, condition.channel, question, donor, condition.control)
        with may_be_refused(condition.channel):  # by who reads it
            prefilled = prefill(pair, question, packet)
    else:
        ids = read_alone(condition, question)
        prefilled = receiver.read(answering, as_batch(ids, pair.device))
    answer = written(answering, prefilled, question.task.max_new_tokens)
    sent = len(packet), pair.endpoint.elements(packet)
    return written_record(pair, condition, question, donor, answer, *sent)


def written(model: PreTrainedModel, prefilled: Prefilled, tokens: int) -> list[int]:
    """What a model writes, greedily, in at most `tokens` tokens. Unanswerable where the logits are
    no numbers."""
    require_finite(prefilled.logits)
    (answer,) = receiver.greedy(model, prefilled, tokens, stop_ids(model))
    return answer


def send(
    pair: LoadedPair, channel: Channel, question: Question, donor: Question, control: str
) -> bytes:
    """The sharer's side: what crosses the wire; b"" when the channel keeps no token.

    Raises Unanswerable for numbers that the codec cannot send.
    """
    source = source_of(control, question, donor)
    cache = sharer.read(pair.sharer, as_batch(sharers_text(pair.interface, source), pair.device))
    prompt = sent_text(pair.interface, question, source)
    tokens = len(prompt) - 1
    return packet_of(pair, channel, apply_control(control, fitted(cache, tokens), [tokens]), prompt)


def packet_of(pair: LoadedPair, channel: Channel, cache: KVCache, prompt: Sequence[int]) -> bytes:
    """The packet of one example's cache of `prompt`: here is chosen what goes. Unanswerable for
    numbers that the codec cannot send."""
    with may_be_refused(channel):
        return pair.endpoint.send(channel, cache, choose(pair, channel, cache, prompt))


def choose(pair: LoadedPair, channel: Channel, cache: KVCache, prompt: Sequence[int]) -> Positions:
    """Which tokens go, and, where the receiver cannot know it, of how long a text they are."""
    positions = select(channel, cache, prompt)
    return positions.told(len(prompt) - 1) if pair.interface.inserts else positions


def prefill(pair: LoadedPair, question: Question, packet: bytes) -> Prefilled:
    """The receiver's side: decode the packet, read the prompt, fuse the tokens that it names."""
    token_ids = as_batch(question.prompts.receiver_ids, pair.device)
    if not packet:
        return receiver.read(pair.receiver, token_ids)
    if pair.interface.inserts:
        most = MOST_TOKENS + 1
        layout, received = pair.endpoint.receive(packet, most, pair.dtype, pair.device)
        require_whole_tokens(layout.kept)
        where = layout.positions(), layout.kept.end
        return pair.interface.prefill_behind(pair.receiver, token_ids, received, *where)
    prompt_tokens = len(question.token_ids)
    layout, received = pair.endpoint.receive(packet, prompt_tokens, pair.dtype, pair.device)
    cut = sections(layout.runs, prompt_tokens)
    if not layout.by_layer:
        return pair.interface.prefill(pair.receiver, token_ids, cut, received)
    merge = partial(merged, pair.interface, layout, received)
    return receiver.prefill(pair.receiver, token_ids, cut, merge)


def require_whole_tokens(kept: Positions) -> None:
    """LatentWireError where layers sent different tokens, which an interface that inserts cannot
    take."""
    if kept.by_layer:
        raise LatentWireError(
            "the interface puts what arrived in front of the prompt, so all layers must send the"
            " same tokens; take another order"
        )


def merged(
    interface: Interface, layout: Layout, received: KVCache, section: Section, own: KVCache
) -> KVCache:
    """What one section of the receiver's cache becomes. A token that a sharer layer did not send
    stays the receiver's own in the layers that read it."""
    arrived, sent = layout.within(received, section.start, section.stop)
    after = interface.merge(arrived, own)
    sent = sent.to(own.keys[0].device)
    here = {layer: sent[source, :, None] for layer, source in interface.sources.items()}

    def kept(after: Sequence[Tensor], own: Sequence[Tensor]) -> tuple[Tensor, ...]:
        whole = list(after)
        for layer, mask in here.items():
            whole[layer] = torch.where(mask, after[layer], own[layer])
        return tuple(whole)

    return KVCache(kept(after.keys, own.keys), kept(after.values, own.values))


def apply_control(control: str, cache: KVCache, tokens: Sequence[int]) -> KVCache:
    """What a control sends of the sharer's caches; see `Control.message`."""
    message = CONTROLS[control].message
    return message(cache, tokens) if message else cache


def fitted(cache: KVCache, tokens: int) -> KVCache:
    """A cache brought to `tokens` of them.

    One that is longer loses tokens at its front, so that the instructions, which end every prompt,
    stand where they should; to one that is shorter, its first token is added in front as often as
    needed.
    """
    if cache.tokens >= tokens:
        return cache.section(cache.tokens - tokens, cache.tokens)
    return concatenate([*[cache.section(0, 1)] * (tokens - cache.tokens), cache], dim=2)


def as_batch(token_ids: Sequence[int], device: torch.device) -> torch.Tensor:
    """Token ids as [1, n]."""
    return torch.tensor([token_ids], device=device)


def written_record(
    pair: LoadedPair,
    condition: Condition,
    question: Question,
    donor: Question,
    answer: list[int],
    wire_bytes: int,
    elements: int = 0,
    **told: Any,
) -> Record:
    """The record of an answer that a model wrote, in token ids; see `make_record`."""
    output = pair.tokenizer.decode(answer, skip_special_tokens=True)
    told |= {"wire_bytes": wire_bytes, "elements": elements, "output": output}
    found = question.task.extract(output)
    return make_record(condition, question, donor, found, generated_tokens=len(answer), **told)
