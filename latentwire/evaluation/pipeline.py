"""One example under one condition, step by step: the definition of every number we report.

    prompt -> sharer's cache -> select -> encode -> packet -> decode -> fuse -> receiver -> answer

An interface that merges does so into the cache of the receiver's own prompt, token by token: both
models read the same, or prompts that are aligned where their tokenizers differ: then the packet
names tokens of the sharer's, which the receiver takes to those of its own that they belong to. One
that inserts puts what arrived before the receiver's prompt, which may be another: the sharer's
whole prompt can be sent, every token keeps its position, and the receiver's prompt stands behind
the whole of it, however few of its tokens arrived. Such a message is of the sharer's prompt alone:
questions on one evidence get the same bytes, which `engine` makes once.

`engine` does the same for many examples and conditions at once and must agree with this page.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c import receiver, sharer
from c2c.cache import KVCache, tokens_at
from c2c.interface import Interface
from c2c.on_device import on_device
from c2c.paired_prompts import PairedPrompts
from c2c.receiver import Prefilled
from c2c.sections import Runs, Section, runs_of, sections
from latentwire.channel import rope
from latentwire.channel.allocation import Allocator, allocates
from latentwire.channel.fitting import Tried, ended, fit
from latentwire.channel.layout import Layout
from latentwire.channel.oracles.oracle import ONE_TOKENIZER, Foreseen, chooser
from latentwire.channel.oracles.registry import ORACLES
from latentwire.channel.packet import MOST_TOKENS
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import needs_queries, select_each
from latentwire.channel.selectors.seen import Seen
from latentwire.channel.selectors.selector import WHOLE_TOKENS, Choose
from latentwire.controls.control import Known
from latentwire.controls.registry import CONTROLS, is_lent
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation.loaded_pair import LoadedPair, stop_ids
from latentwire.evaluation.option_logprobs import option_logprobs, option_tokens
from latentwire.evaluation.reading import (
    Text,
    places,
    read_alone,
    receivers_text,
    sent_text,
    sharers_text,
)
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
    question, donor = (each.under(condition.alignment) for each in (question, donor))
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
    labels = option_tokens(pair.tokenizer_of(name), question.options)
    (logprobs,) = option_logprobs(prefilled.logits, [labels])
    answer = written(answering, prefilled, question.task.max_new_tokens)
    sent = len(packet), pair.endpoint.elements(packet)
    asked = condition, question, donor
    return written_record(pair, *asked, answer, *sent, option_logprobs=logprobs)


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
    cache = read_as_sharer(pair, sharers_text(pair.interface, source), needs_queries(channel))
    if source is not question and not pair.interface.inserts:
        cache = fitted(
            cache, sharers_text(pair.interface, source), sharers_text(pair.interface, question)
        )
    text = sent_text(pair.interface, question, source)
    cache = apply_control(pair, control, cache, [text])
    if channel.order in ORACLES:
        return packet_by_oracle(pair, channel, cache, text, question)
    return packet_of(pair, channel, cache, text)


def read_as_sharer(pair: LoadedPair, text: Text, queries: bool = False) -> KVCache:
    """The sharer's cache of a text, with its tokens' queries where a selector asks for them."""
    ids, seen = as_batch(text.ids, pair.device), seen_of(text, pair.device)
    return sharer.read(pair.sharer, ids, seen, queries)


def packet_of(pair: LoadedPair, channel: Channel, cache: KVCache, text: Text) -> bytes:
    """The packet of one example's cache of `text`: here is chosen what goes. Unanswerable for
    numbers that the codec cannot send."""
    with may_be_refused(channel):
        return pair.endpoint.send(channel, cache, choose(pair, channel, cache, text))


def packet_by_oracle(
    pair: LoadedPair, channel: Channel, cache: KVCache, text: Text, question: Question
) -> bytes:
    """The same where an oracle chooses, which knows what the receiver has read of the question."""
    ids = receivers_text(question).ids
    if len(ids) < 2:  # there is nothing to merge into
        return b""
    own = sharer.read(pair.receiver, as_batch(ids, pair.device))
    with may_be_refused(channel):
        (positions,) = foresee(pair, channel, cache, [text], own)
        return pair.endpoint.send(channel, cache, positions)


def foresee(
    pair: LoadedPair, channel: Channel, cache: KVCache, texts: Sequence[Text], own: KVCache
) -> list[Positions]:
    """What an oracle chooses of each of a batch's caches [B, H, T, D], the receiver's being `own`.
    LatentWireError for a pair of which no oracle can tell."""
    oracle, tokens = ORACLES[channel.order], [len(text.ids) for text in texts]
    if any(text.sendable is not None for text in texts):
        raise LatentWireError(ONE_TOKENIZER)
    if oracle.after_codec:
        whole = [Positions.of(range(n - 1)) for n in tokens]
        cache = pair.endpoint.simulate(channel, cache, whole, check=False).cache
    seen = Foreseen(pair.interface, cache, own)
    return fitting(pair, channel, cache, texts, chooser(oracle, seen, tokens, channel.keep_ratio))


def choose(pair: LoadedPair, channel: Channel, cache: KVCache, text: Text) -> Positions:
    """Which tokens go: a selector's choice, of as many as a budget permits."""
    (found,) = choose_each(pair, channel, cache, [(cache, text)])
    return found


def choose_each(
    pair: LoadedPair,
    channel: Channel,
    batch: KVCache,
    examples: Sequence[tuple[KVCache, Text]],
    allocator: Allocator | None = None,
    tried: Tried | None = None,
) -> list[Positions]:
    """The same for each of several examples, which are the rows of `batch`. `allocator` and
    `tried` are of them too, where channels share them."""
    caches, texts = [able(*each) for each in examples], [text for _, text in examples]
    choose = partial(selected, pair, channel, caches, texts)
    return fitting(pair, channel, batch, texts, choose, allocator, tried)


def allocator_of(pair: LoadedPair, batch: KVCache, texts: Sequence[Text]) -> Allocator:
    """What gives bits to the tokens of these texts, whose caches are the rows of `batch`. What
    cannot be sent has no part in it."""
    sent = [text.sent for text in texts]
    if any(text.sendable is not None for text in texts):
        batch = tokens_at(batch, sent)
    return Allocator(pair.endpoint, batch, list(map(len, sent)))


def fitting(
    pair: LoadedPair,
    channel: Channel,
    batch: KVCache,
    texts: Sequence[Text],
    choose: Choose,
    allocator: Allocator | None = None,
    tried: Tried | None = None,
) -> list[Positions]:
    """What goes of each text's cache, a row of `batch`, as is chosen where so many tokens may go:
    as many as the budget permits, or any number without one. Under a budget, a codec by token has
    bits allocated too, step by step; a stream, of all that is chosen, ends at the budget."""
    any_number = dict.fromkeys(range(len(texts)))
    if not channel.has_budget:
        return choose(any_number)
    budgets = [budget_bytes(pair, channel, text) for text in texts]
    if pair.endpoint.is_embedded(channel):
        return ended(pair.endpoint, channel, choose(any_number), budgets)
    if by_token := allocates(channel):
        allocator = allocator or allocator_of(pair, batch, texts)
        steps = allocator.chooser(channel, by_token, choose)
        return fit(pair.endpoint, channel, batch, *steps, budgets, tried)
    most_tokens = [len(text.sent) for text in texts]
    return fit(pair.endpoint, channel, batch, choose, most_tokens, budgets, tried)


def selected(
    pair: LoadedPair,
    channel: Channel,
    caches: Sequence[KVCache],
    texts: Sequence[Text],
    most_tokens: Mapping[int, int | None],
) -> list[Positions]:
    """What a selector chooses of what it sees of texts (`able`), by their places: at most so many
    tokens of each, and, where the receiver cannot know it, of how long a text they are."""
    asked = [texts[place] for place in most_tokens]
    ids = [
        text.ids if text.sendable is None else [text.ids[at] for at in (*text.sendable, -1)]
        for text in asked
    ]
    seen = [caches[place] for place in most_tokens]
    chosen = select_each(channel, seen, ids, [*most_tokens.values()])
    return [_of_text(pair, positions, text) for positions, text in zip(chosen, asked, strict=True)]


def _of_text(pair: LoadedPair, positions: Positions, text: Text) -> Positions:
    if text.sendable is not None:
        return positions.moved(dict(enumerate(text.sendable)))
    return positions.told(len(text.ids) - 1) if pair.interface.inserts else positions


def able(cache: KVCache, text: Text) -> KVCache:
    """What a selector sees of one example's cache: the tokens that can be sent."""
    return cache if text.sendable is None else Seen.of(tokens_at(cache, [text.sendable]))


def budget_bytes(pair: LoadedPair, channel: Channel, text: Text) -> int:
    """Most bytes of a packet of `text` through a channel that has a budget. A ratio is of the
    packet that holds all of the text in 16 bits, rounded down."""
    if channel.budget_bytes:
        return channel.budget_bytes
    return int(channel.budget_ratio * pair.endpoint.whole_bytes(text.sent))


def prefill(pair: LoadedPair, question: Question, packet: bytes) -> Prefilled:
    """The receiver's side: decode the packet, read the prompt, fuse the tokens that it names."""
    text, aligned = receivers_text(question), question.prompts.alignment
    token_ids, seen = as_batch(text.ids, pair.device), seen_of(text, pair.device)
    if not packet:
        return receiver.read(pair.receiver, token_ids, seen)
    if pair.interface.inserts:
        most = MOST_TOKENS + 1
        layout, received = pair.endpoint.receive(packet, most, pair.dtype, pair.device)
        require_whole_tokens(layout.kept)
        where = layout.positions(), layout.kept.end
        return pair.interface.prefill_behind(pair.receiver, token_ids, received, *where)
    sharer_tokens = len(aligned.sharer_ids if aligned else question.token_ids)
    layout, received = pair.endpoint.receive(packet, sharer_tokens, pair.dtype, pair.device)
    if aligned:
        kept, received = taken_to_its_own(aligned, layout.kept, received)
        layout = replace(layout, runs=kept.sections, by_layer=kept.by_layer)
    cut = sections(layout.runs, len(text.ids))
    if not layout.by_layer:
        return pair.interface.prefill(pair.receiver, token_ids, cut, received, seen)
    merge = partial(merged, pair.interface, layout, received)
    return receiver.prefill(pair.receiver, token_ids, cut, merge, seen=seen)


def taken_to_its_own(
    aligned: PairedPrompts, kept: Positions, received: KVCache
) -> tuple[Positions, KVCache]:
    """What arrived of the sharer's tokens, as of the receiver's tokens that they belong to: a token
    that belongs to several is there for each."""
    own, taken = own_positions(aligned, kept)
    return own, taken_cache(received, [taken])


def taken_cache(cache: KVCache, taken: Sequence[Callable[[int], list[int]]]) -> KVCache:
    """Of each row and layer the tokens at the places that `taken` says; shorter rows are filled
    up."""

    def pick(layer: int, tensor: Tensor) -> Tensor:
        rows = [each(layer) for each in taken]
        longest = max(map(len, rows))
        filled = [row + [0] * (longest - len(row)) for row in rows]
        return _taken_tokens(tensor, torch.tensor(filled, dtype=torch.long))

    return KVCache(
        tuple(pick(layer, key) for layer, key in enumerate(cache.keys)),
        tuple(pick(layer, value) for layer, value in enumerate(cache.values)),
    )


def _taken_tokens(tensor: Tensor, index: Tensor) -> Tensor:
    """K or V [B, H, K, D] of a layer's tokens at `index` (int64 [B, K]). One that is not sent has
    NaN for any number of tokens, and keeps it."""
    rows, heads, tokens, head_dim = tensor.shape
    if index.numel() and int(index.max()) >= tokens:
        return tensor.new_full((rows, heads, index.shape[1], head_dim), torch.nan)
    wide = on_device(index, tensor.device)[:, None, :, None]
    return tensor.gather(2, wide.expand(-1, heads, -1, head_dim))


def own_positions(
    aligned: PairedPrompts, kept: Positions
) -> tuple[Positions, Callable[[int], list[int]]]:
    """Of the sharer's tokens that arrived (`kept`) the receiver's that they belong to; and, layer
    by layer, the place of each one's source among all that the layer sent."""

    @cache
    def own(runs: Runs) -> list[tuple[int, int]]:
        arrived = {position: n for n, position in enumerate(p for run in runs for p in run)}
        return [(i, arrived[j]) for i, j in enumerate(aligned.sources) if j in arrived]

    def of(runs: Runs) -> Runs:
        return runs_of(place for place, _ in own(runs))

    found = Positions(of(kept.sections), tuple(map(of, kept.by_layer)))
    return found, lambda layer: [source for _, source in own(kept.runs(layer))]


def require_whole_tokens(kept: Positions) -> None:
    """LatentWireError where layers sent different tokens, which an interface that inserts cannot
    take."""
    if kept.by_layer:
        raise LatentWireError(WHOLE_TOKENS)


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


def apply_control(pair: LoadedPair, control: str, cache: KVCache, texts: Sequence[Text]) -> KVCache:
    """What a control sends of the sharer's caches of these texts; see `Control.message`."""
    message, calibration, means = CONTROLS[control].message, pair.endpoint.calibration, None
    if message is None:
        return cache
    if CONTROLS[control].calibrated and calibration:
        means = calibration.key_mean, calibration.value_mean
    try:
        frequencies = rope.inverse_frequencies(pair.sharer).double()
    except LatentWireError:
        frequencies = None
    digests = [hashlib.sha256(repr(text.ids).encode()).digest() for text in texts]
    seeds = [int.from_bytes(digest[:8], "big") for digest in digests]
    tokens = [len(text.ids) - 1 for text in texts]
    sent = [text.sent for text in texts]
    return message(cache, tokens, Known(seeds, sent, frequencies, means))


def fitted(cache: KVCache, lent: Text, own: Text) -> KVCache:
    """The cache of a lent text brought to the length of the question's own; see `places`."""
    return cache.at(torch.tensor(places(lent, own), dtype=torch.long, device=cache.keys[0].device))


def as_batch(token_ids: Sequence[int], device: torch.device) -> torch.Tensor:
    """Token ids as [1, n]."""
    return torch.tensor([token_ids], device=device)


def seen_of(text: Text, device: torch.device) -> Tensor | None:
    """Which tokens of a text are no padding, as `receiver.prefill` takes it; None: all."""
    if not text.pads:
        return None
    return as_batch([int(place not in text.pads) for place in range(len(text.ids))], device)


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
    name = "sharer" if condition.system == "sharer" else "receiver"
    output = pair.tokenizer_of(name).decode(answer, skip_special_tokens=True)
    told |= {"wire_bytes": wire_bytes, "elements": elements, "output": output}
    if condition.channel and condition.channel.has_budget:
        text = sent_text(pair.interface, question, source_of(condition.control, question, donor))
        told["budget_bytes"] = budget_bytes(pair, condition.channel, text)
    if condition.channel and not pair.interface.inserts and is_lent(condition.control):
        lent = len(donor.prompts.receiver_ids)
        told["donor_tokens"] = None if lent == len(question.prompts.receiver_ids) else lent
    found = question.task.extract(output)
    return make_record(condition, question, donor, found, generated_tokens=len(answer), **told)
