"""A batch of examples under many conditions: read once, fused together, decoded together.

Every (condition, example) pair that the receiver answers is a row of its decoder, condition by
condition. Work that conditions share is done once: the sharer reads each prompt, the receiver each
instruction. Of several questions on one evidence, which the sharer alone reads, the message is made
once too. What is left for a row is its codec's loss, the fusion of the tokens that arrive, what is
read again after the first of them (`merging`), and decoding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import cycle, islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from c2c.batched_decoding import Decoder
from c2c.cache import KVCache, geometry
from c2c.on_device import on_device, on_host
from c2c.pieces import rounded
from c2c.slot_cache import extend, new_slots, read
from c2c.steps import SideStream, Steps, finished
from c2c.wide import clear, put
from latentwire.channel.allocation import Allocator, allocates
from latentwire.channel.endpoint import Arrived, Sizes
from latentwire.channel.fitting import Tried
from latentwire.channel.oracles.registry import ORACLES
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.ranked import Ranked
from latentwire.channel.selectors.registry import selector
from latentwire.channel.selectors.seen import Seen, begin_ranks
from latentwire.channel.sent_rows import SentRows
from latentwire.channel.tokens_of_runs import tokens_of_rows
from latentwire.controls.registry import MATCHED, is_lent
from latentwire.evaluation.loaded_pair import LoadedPair, stop_ids
from latentwire.evaluation.merging import Merging, listed, read_on
from latentwire.evaluation.option_logprobs import of_tokens, option_tokens
from latentwire.evaluation.padded_prompts import hidden, padded
from latentwire.evaluation.pipeline import (
    allocator_of,
    apply_control,
    choose_each,
    foresee,
    own_positions,
    require_whole_tokens,
    taken_cache,
)
from latentwire.evaluation.reading import (
    Donors,
    Text,
    places,
    read_alone,
    receivers_text,
    sent_text,
    sharers_text,
)
from latentwire.evaluation.room import need_queries, query_heads
from latentwire.evaluation.unanswerable import NOT_FINITE, finite_rows, refusal
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question

_T = TypeVar("_T")
OnLogits = Callable[[Sequence[Condition], Tensor], None]
Reasons = dict[Condition, list[str | None]]  # why each example of a batch has no answer
Sends = tuple[str, int]  # `Condition.sends`: control and donor
OWN: Sends = (MATCHED, 1)
Chosen = Mapping[Condition, SentRows]  # of each message, under conditions that send a cache
Received = dict[Condition, Arrived]


class Messages(NamedTuple):
    """What the sharer has to send in a batch under one control: M messages for B examples."""

    cache: KVCache  # [M, H, T, D]
    texts: list[Text]  # of which each is the cache; see `sharers_text`
    of: list[int]  # each example's message

    @property
    def tokens(self) -> list[int]:
        """How many tokens of each can be sent."""
        return [len(text.ids) - 1 for text in self.texts]

    @property
    def every(self) -> KVCache:
        """Each example's cache, [B, H, T, D]."""
        return self.spread(self.cache)

    def each(self, values: Sequence[_T]) -> list[_T]:
        """Each example's of `values` of the messages."""
        return [values[message] for message in self.of]

    def each_row(self, rows: SentRows) -> SentRows:
        """Each example's of what is sent of the messages."""
        if self.own:
            return rows
        return rows.once(("each", *self.of), lambda: SentRows(self.each(rows)))

    @property
    def own(self) -> bool:
        """Whether each example has a message of its own, in their order."""
        return self.of == [*range(len(self.texts))]

    def without_queries(self) -> "Messages":
        """The same once it is chosen what goes."""
        return self._replace(cache=replace(self.cache, queries=()))

    def spread(self, cache: KVCache) -> KVCache:
        """Each example's row of a cache of the messages; copied only where one is shared."""
        return cache if self.own else cache.pick(_index(self.of, cache))


Sent = dict[Sends, Messages]
Seeing = dict[Sends, Callable[[], list[tuple[KVCache, Text]]]]  # waits for the ranks of tokens


class Answers(NamedTuple):
    """One condition's part of a batch, in the order of its examples."""

    token_ids: list[list[int]]
    option_logprobs: list[list[float]]  # of each label, and more that mean nothing
    labels: list[dict[str, int]]  # the tokens of the options
    wire_bytes: list[int]
    elements: list[int]  # numbers that each packet stands for
    unanswered: list[str | None]  # why an example has no answer; what else stands there is nothing

    def of_bytes(self, wire_bytes: list[int], elements: list[int]) -> "Answers":
        """The same of what was sent in so many bytes."""
        return self._replace(wire_bytes=wire_bytes, elements=elements)


def answer(
    work: Workspace,
    conditions: Sequence[Condition],
    questions: Sequence[Question],
    donors: Donors,
    max_new_tokens: int,
    on_first_logits: OnLogits = lambda conditions, logits: None,
    forced_lengths: Mapping[Condition, Sequence[int]] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[Condition, Answers]:
    """What each condition answers to each question; donors[n][i] is donor n of questions[i].

    `on_first_logits` is shown the logits of the first new token, once a model: the conditions, and
    a tensor [conditions, B, vocabulary]. `forced_lengths` says how long answers are, for timings.
    `meanwhile` is called while a device has much work of its own.
    The questions are as they are read under the conditions' alignment, one for all of them. An
    example whose cache a condition's codec cannot send, or whose logits are no numbers, stays
    unanswered under that condition and takes no other with it. Raises C2CError for a prompt that is
    too short to be sent. Inside `slot_attention` only.
    """
    batch = Batch(work, questions, donors, max_new_tokens, on_first_logits, forced_lengths)
    plain = [c for c in conditions if c.system == "receiver"]
    fused = [c for c in conditions if c.channel]
    sharer_alone = [c for c in conditions if c.system == "sharer"]
    shared = [OWN for _ in sharer_alone] if batch.sharer_rereads else []
    sent = batch.sent({*shared, *(c.sends for c in fused)}, need_queries(fused))
    seen = batch.seen(sent, fused)
    alone: SideStream[dict[Condition, Answers]] | None = None
    if sharer_alone:
        prompts = [Text(read_alone(sharer_alone[0], question)) for question in questions]
        decoder = batch.decoder("sharer", 1)
        batch.fill(decoder, sent[OWN].every if shared else batch.read("sharer", prompts), 1)
        work.on_phase_end("copy")
        reasons = batch.no_reasons(sharer_alone)
        steps = batch.decoding(decoder, sharer_alone, reasons, prompts)
        alone = SideStream(steps, decoder.device)

    def beside() -> None:
        if alone:
            alone.step()
        meanwhile()

    answers: dict[Condition, Answers] = {}
    try:
        if plain or fused:
            answers |= batch.by_receiver(plain, fused, sent, seen, beside)
        if alone:
            answers |= alone.result()
    finally:  # whatever happens, what the sharer's steps use is free only then
        if alone:
            alone.joined()
    return {condition: answers[condition] for condition in conditions}


@dataclass(frozen=True)
class Batch:
    """B examples, and the steps of `answer`. Caches are [B, H, T, D], padded at the end."""

    work: Workspace
    questions: Sequence[Question]
    donors: Donors
    max_new_tokens: int
    on_first_logits: OnLogits
    forced_lengths: Mapping[Condition, Sequence[int]] | None

    def by_receiver(
        self,
        plain: Sequence[Condition],
        fused: Sequence[Condition],
        sent: Sent,
        seen: Seeing,
        meanwhile: Callable[[], None],
    ) -> dict[Condition, Answers]:
        """What the receiver answers alone, and with what was sent. `sent` and `seen` are empty
        afterwards: what they hold is memory."""
        work, reasons = self.work, self.no_reasons([*plain, *fused])
        own = self.read("receiver", self.prompts)
        work.on_phase_end("receiver prefill")
        decoder = self.decoder("receiver", len(reasons))
        self.fill(decoder, own, len(reasons))
        work.on_phase_end("copy")
        # Chosen while the device still reads: the ranks of tokens are there before that.
        chosen = self.choose(sent, seen, fused, own)
        seen.clear()  # it holds the queries, which take more memory than what is sent
        for key, messages in sent.items():
            sent[key] = messages.without_queries()
        reading = {c: self.reading(sent[c.sends].each_row(chosen[c])) for c in fused}
        answering = [*plain, *sorted(fused, key=reading.__getitem__)]
        received = self.simulate(sent, chosen, reasons)
        waiting = {condition: arrival.sizes for condition, arrival in received.items()}
        sizes: dict[Condition, Sizes] = {}

        def between() -> None:
            if waiting:
                condition, work_out = waiting.popitem()
                sizes[condition] = work_out()
            meanwhile()

        received = self.aligned(received)
        front: list[Positions] = []
        if work.pair.interface.inserts:
            front = self.insert(decoder, sent, received, answering)
        else:
            self.merge(decoder, own, received, answering)
        sent.clear()
        del own
        steps = self.decoding(decoder, answering, reasons, self.prompts, front)
        answers = finished(steps, between)
        while waiting:
            between()
        return {
            c: found.of_bytes(*sizes[c]) if c in sizes else found for c, found in answers.items()
        }

    def no_reasons(self, conditions: Sequence[Condition]) -> Reasons:
        return {condition: [None] * len(self.questions) for condition in conditions}

    @cached_property
    def prompts(self) -> list[Text]:
        """The receiver's."""
        return list(map(receivers_text, self.questions))

    @cached_property
    def token_ids(self) -> Tensor:
        """The receiver's prompts, `padded`."""
        return padded([prompt.ids for prompt in self.prompts], self.work.pair.device)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each of the receiver's prompts."""
        return [len(prompt.ids) for prompt in self.prompts]

    @cached_property
    def slots(self) -> int:
        """That a row needs: for what may stand in front, the longest prompt and its answer."""
        lent = [donor for each in self.donors.values() for donor in each]
        return slots_needed(self.work.pair, self.questions, lent, self.max_new_tokens)

    @property
    def sharer_rereads(self) -> bool:
        """Whether the sharer, when it answers alone, reads what its messages are made of."""
        return not any(q.prompts.private or q.prompts.one_text for q in self.questions)

    def decoder(self, name: str, conditions: int) -> Decoder:
        """The decoder of `receiver` or `sharer`, with a row for each condition and example."""
        return self.work.decoder(
            name,
            self.work.pair.model(name),
            conditions * len(self.questions),
            self.slots,
            conditions,
        )

    def read(self, name: str, prompts: Sequence[Text], queries: bool = False) -> KVCache:
        """A model's caches of all but the last token of each prompt (of one token, that one), with
        these tokens' queries where they are asked for."""
        model = self.work.pair.model(name)
        heads = query_heads(model) if queries else 0
        own = prompts is self.prompts  # they are asked for again, when the device must not wait
        token_ids = self.token_ids if own else padded([each.ids for each in prompts], model.device)
        lengths = [max(1, len(prompt.ids) - 1) for prompt in prompts]
        rows, tokens = len(lengths), max(lengths)
        shape = geometry(model.config)
        cache = new_slots(shape, rows, tokens, model.dtype, model.device, heads)
        unseen = hidden(prompts, tokens, model.device)
        read(model, token_ids, lengths, cache, self.work.at_once, unseen)
        return cache

    def sent(self, wanted: set[Sends], queries: bool) -> Sent:
        """What the sharer has to send under each control and by each donor, with queries where
        selectors need them.

        A prompt is read once, whether it is asked, lent or both, and however often it is lent.
        """
        pair, donors = self.work.pair, sorted(set(map(_donor, wanted)))
        interface = pair.interface
        if not wanted:
            return {}
        # Prompts that are asked come first, so nothing is copied unless one is asked twice.
        texts = {
            donor: [sharers_text(interface, question) for question in self._sources(donor)]
            for donor in donors
        }
        every = dict.fromkeys(text for each in texts.values() for text in each)
        numbers = {prompt: number for number, prompt in enumerate(every)}
        cache = self.read("sharer", list(numbers), queries)
        messages: dict[int, Messages] = {}
        for donor, each in texts.items():
            told, of = self._messages(donor)
            if donor and not interface.inserts:
                own = [sharers_text(interface, question) for question in self.questions]
                picked = fit_length(cache, [numbers[text] for text in each], each, own)
            else:
                rows = [numbers[text] for text in told]
                same = rows == list(range(len(rows)))
                picked = cache.rows(0, len(rows)) if same else cache.pick(_index(rows, cache))
            found = Messages(picked, told, of)
            messages[donor] = found._replace(cache=picked.section(0, max(1, *found.tokens)))
        sent = {}
        for key in wanted:
            cache, told, _ = found = messages[_donor(key)]
            sent[key] = found._replace(cache=apply_control(pair, key[0], cache, told))
        self.work.on_phase_end("sharer prefill")
        return sent

    def _sources(self, donor: int) -> Sequence[Question]:
        """The questions of which the sharer reads the prompts: their own for 0."""
        return self.donors[donor] if donor else self.questions

    def _messages(self, donor: int) -> tuple[list[Text], list[int]]:
        """The texts of which messages are made of the own prompts, or of a donor's, and which is
        each example's. One that is merged is brought to its question's length: it is not shared."""
        interface, sources = self.work.pair.interface, self._sources(donor)
        told = list(map(partial(sent_text, interface), self.questions, sources))
        if not interface.inserts:
            return told, list(range(len(told)))
        numbers = {text: number for number, text in enumerate(dict.fromkeys(told))}
        return list(numbers), [numbers[text] for text in told]

    def fill(self, decoder: Decoder, cache: KVCache, conditions: int) -> None:
        """Give every condition's rows the same cache, and zeros after it.

        What a former batch left there may hold NaN, and 0 * NaN is NaN.
        """
        rows, tokens = len(self.questions), cache.tokens
        seen = rounded(self.slots)
        for kind in ("keys", "values"):
            pairs = zip(getattr(decoder.slots, kind), getattr(cache, kind), strict=True)
            for slots, tensor in pairs:
                used = slots[: conditions * rows].unflatten(0, (conditions, rows))
                put(used, (..., slice(tokens), slice(None)), tensor)
                clear(used, (..., slice(tokens, seen), slice(None)))

    def choose(
        self, sent: Sent, seen: Seeing, conditions: Sequence[Condition], own: KVCache | None
    ) -> Chosen:
        """What the sender chooses of each message, once for conditions that differ by codec, where
        no budget asks how long packets are; where an oracle chooses, by `own`, which are the
        receiver's caches."""
        pair, examples = self.work.pair, {sends: each() for sends, each in seen.items()}
        allocators: dict[Sends, Allocator] = {}
        tried: dict[tuple[str, str, Sends], Tried] = {}  # of each codec, for all budgets
        found: dict[tuple[Channel, Sends], SentRows] = {}
        same: dict[SentRows, SentRows] = {}
        chosen: dict[Condition, SentRows] = {}
        for condition in conditions:
            channel, sends = condition.channel, condition.sends
            assert channel is not None
            cache, texts, _ = sent[sends]
            if channel.order in ORACLES:
                assert own is not None
                chosen[condition] = SentRows(foresee(pair, channel, cache, texts, own))
                continue
            alike = channel if channel.has_budget else replace(channel, codec="", calibration="")
            key = alike, sends
            if key not in found:
                if allocates(channel) and sends not in allocators:
                    allocators[sends] = allocator_of(pair, cache, texts)
                known = tried.setdefault((channel.codec, channel.calibration, sends), {})
                told = cache, examples[sends], allocators.get(sends), known
                rows = SentRows(choose_each(pair, channel, *told))
                # What goes is often the same of another's cache, but not where layers differ.
                found[key] = rows if rows.differ else same.setdefault(rows, rows)
            chosen[condition] = found[key]
        return chosen

    def seen(self, sent: Sent, conditions: Sequence[Condition]) -> Seeing:
        """Of each kind's messages what a sender has: the cache [1, H, n-1, D] and the text. What
        selectors rank is ranked here, for all messages and once for all budgets."""
        asked: dict[Sends, list[Ranked]] = {condition.sends: [] for condition in conditions}
        for condition in conditions:
            found = selector(condition.channel.order) if condition.channel else None
            if isinstance(found, Ranked):
                asked[condition.sends].append(found)
        return {sends: _one_by_one(sent[sends], ranked) for sends, ranked in asked.items()}

    def simulate(self, sent: Sent, chosen: Chosen, reasons: Reasons) -> Received:
        """What arrives under each condition that sends something: caches of the messages, and all
        else of each example; nothing where a message is refused, of which `reasons` says why.

        Whether any is refused is asked once for all conditions: the answer waits for the device.
        """
        endpoint = self.work.pair.endpoint
        alike: dict[tuple[Sends, int], list[Condition]] = {}  # but for their codecs
        for condition, rows in chosen.items():
            alike.setdefault((condition.sends, id(rows)), []).append(condition)
        received: Received = {}
        for conditions in alike.values():
            channels = [c.channel for c in conditions if c.channel]
            cache, rows = sent[conditions[0].sends].cache, chosen[conditions[0]]
            arrived = endpoint.simulate_each(channels, cache, rows)
            received |= zip(conditions, arrived, strict=True)
        if not received:
            return {}
        doubts = on_host(torch.cat([arrival.doubtful for arrival in received.values()]))
        self.list_what_is_merged(sent, received)
        told = iter(doubts().tolist())
        for condition, arrival in list(received.items()):
            doubtful, messages = list(islice(told, len(arrival.kept))), sent[condition.sends]
            kept = arrival.kept
            if condition.channel is not None and any(doubtful):
                refused = endpoint.refusals(
                    condition.channel, messages.cache, chosen[condition], doubtful
                )
                for message, error in refused.items():
                    for row in (row for row, own in enumerate(messages.of) if own == message):
                        reasons[condition][row] = refusal(condition.channel, error)
                kept = SentRows(
                    Positions() if message in refused else each for message, each in enumerate(kept)
                )
            received[condition] = replace(
                arrival,
                kept=messages.each_row(kept),
                sizes=partial(_of_examples, messages.of, kept, arrival.sizes),
            )
        self.work.on_phase_end("codecs")
        return received

    def list_what_is_merged(self, sent: Sent, received: Received) -> None:
        """Have at hand what merging will ask of these rows, if none of them is refused: the device
        is coding, and what it has to do next waits for that."""
        if self.work.pair.interface.inserts:
            return
        for condition, arrival in received.items():
            rows, _ = self.own_positions(sent[condition.sends].each_row(arrival.kept))
            for later in (False, True) if rows.later else (False,):
                listed(rows, later, arrival.cache.layers, self.work.pair.device)

    @cached_property
    def keeps_places(self) -> bool:
        """Whether the receiver's tokens are the sharer's."""
        pairs = [question.prompts.alignment for question in self.questions]
        return all(aligned is None or aligned.keeps_places for aligned in pairs)

    def own_positions(
        self, kept: SentRows
    ) -> tuple[SentRows, tuple[Callable[[int], list[int]], ...]]:
        """`pipeline.own_positions` of each example."""
        if self.keeps_places:
            return kept, (_nothing,) * len(kept)

        def found() -> tuple[SentRows, tuple[Callable[[int], list[int]], ...]]:
            rows, taken = zip(
                *(
                    own_positions(aligned, each)
                    if (aligned := question.prompts.alignment)
                    else (each, _nothing)
                    for question, each in zip(self.questions, kept, strict=True)
                ),
                strict=True,
            )
            return SentRows(rows), taken

        return kept.once("own positions", found)

    def aligned(self, received: Received) -> Received:
        """What arrived, as of the receiver's tokens that it belongs to."""
        if self.keeps_places:
            return received
        found = {}
        for condition, arrival in received.items():
            kept, taken = self.own_positions(arrival.kept)
            cache = taken_cache(arrival.cache, taken)
            found[condition] = replace(arrival, kept=kept, cache=cache)
        return found

    def insert(
        self,
        decoder: Decoder,
        sent: Sent,
        received: Received,
        conditions: Sequence[Condition],
    ) -> list[Positions]:
        """Put what arrived at the front of each row's slots, and read the instruction behind it;
        which tokens those are, row by row. `received` is empty afterwards."""
        rows, before = len(self.questions), list[Positions]()
        for number, condition in enumerate(conditions):
            arrival = received.get(condition)
            kept: Sequence[Positions] = arrival.kept if arrival else [Positions()] * rows
            before += kept
            if arrival and any(each.sections for each in kept):
                for each in kept:
                    require_whole_tokens(each)
                ((at,), _) = tokens_of_rows(arrival.chosen, 1, self.work.pair.device)
                front = self.work.pair.interface.prepare(arrival.cache, at)
                assert front is not None
                front = sent[condition.sends].spread(front)
                slots = decoder.slots.rows(number * rows, (number + 1) * rows)
                to, tensors = (*slots.keys, *slots.values), (*front.keys, *front.values)
                for slot, tensor in zip(to, tensors, strict=True):
                    slot[:, :, : front.tokens] = tensor
        self.work.on_phase_end("fusion")
        received.clear()
        self._read_behind(decoder, before)
        self.work.on_phase_end("tails")
        return before

    def _read_behind(self, decoder: Decoder, before: Sequence[Positions]) -> None:
        """Read each row's instruction behind the tokens that stand `before` it."""
        rows, spans = len(self.questions), list[tuple[int, int]]()
        for start in range(0, len(before), rows):
            ahead = [each.count for each in before[start : start + rows]]
            # Where something was put in front of any row, no row's slots are its own any more.
            spans += [
                (tokens if any(ahead) else length - 1, tokens + length - 1)
                for tokens, length in zip(ahead, self.lengths, strict=True)
            ]
        extend(
            self.work.pair.receiver,
            self.token_ids.repeat(len(spans) // rows, 1),
            spans,
            decoder.slots.rows(0, len(spans)),
            self.work.at_once,
            on_device(torch.tensor([each.left_out for each in before]), self.work.pair.device),
        )

    def merge(
        self,
        decoder: Decoder,
        own: KVCache,
        received: Received,
        conditions: Sequence[Condition],
    ) -> None:
        """Merge what arrived into each row's slots, and read again what follows its sections;
        `own` are the receiver's caches. `received` is empty afterwards."""
        merging = Merging(self.work, self.prompts, self.token_ids, own, decoder.slots)
        merging.merge(received, conditions)

    def reading(self, sent: SentRows) -> tuple[bool, int]:
        """Sorts conditions by what is read again under them: those with later sections together,
        and then the longest first."""

        def found() -> tuple[bool, int]:
            chosen, _ = self.own_positions(sent)
            spans = map(read_on, chosen, self.lengths)
            tokens = max(stop - start for start, stop in spans)
            return chosen.later, -tokens

        return sent.once("reading", found)

    def decoding(
        self,
        decoder: Decoder,
        conditions: Sequence[Condition],
        reasons: Reasons,
        prompts: Sequence[Text],
        before: Sequence[Positions] = (),
    ) -> Steps[dict[Condition, Answers]]:
        """Each condition's answers to `prompts` in token ids, with what their options got, from its
        rows of the decoder, in which tokens may stand `before` the prompt; as of nothing sent.
        Logits that are no numbers are noted in `reasons`."""
        rows = len(prompts)
        front = before or [Positions()] * len(conditions) * rows
        last = on_device(torch.tensor([prompt.ids[-1] for prompt in prompts]), decoder.device)
        unseen = hidden(prompts, max(len(prompt.ids) for prompt in prompts), decoder.device)
        labels = self.labels(conditions[0]) * len(conditions)
        first: list[Tensor] = []  # read when all is decoded: the device is not to wait for it

        def on_first_logits(logits: Tensor) -> None:
            first.extend((finite_rows(logits), of_tokens(logits, labels)))
            self.on_first_logits(conditions, logits.unflatten(0, (len(conditions), rows)))

        forced_lengths = None
        if self.forced_lengths is not None:
            forced_lengths = [
                length for condition in conditions for length in self.forced_lengths[condition]
            ]
        answers = yield from decoder.greedy(
            last.repeat(len(conditions)),
            [each.count + len(p.ids) - 1 for each, p in zip(front, cycle(prompts), strict=False)],
            self.max_new_tokens,
            stop_ids(decoder.model),
            forced_lengths,
            on_first_logits,
            [each.left_out for each in front],
            None if unseen is None else unseen.repeat(len(conditions), 1),
        )
        self.work.on_phase_end("decoding")
        finite, options = first
        for place in np.flatnonzero(~finite.numpy(force=True)).tolist():
            condition, row = conditions[place // rows], place % rows
            reasons[condition][row] = reasons[condition][row] or NOT_FINITE
        logprobs = options.tolist()
        parts = (slice(start, start + rows) for start in range(0, len(answers), rows))
        nothing = [0] * rows
        return {
            c: Answers(answers[part], logprobs[part], labels[part], nothing, nothing, reasons[c])
            for c, part in zip(conditions, parts, strict=True)
        }

    def labels(self, condition: Condition) -> list[dict[str, int]]:
        """The tokens of each question's options, of the model that answers."""
        tokenizer = self.work.pair.tokenizer_of(condition.system)
        options = [question.options for question in self.questions]
        known = {each: option_tokens(tokenizer, each) for each in dict.fromkeys(options)}
        return [known[each] for each in options]


def _one_by_one(
    messages: Messages, selectors: Iterable[Ranked]
) -> Callable[[], list[tuple[KVCache, Text]]]:
    """Gives of each message what a sender has, and how these selectors rank it. Where not all
    tokens can be sent, others are ranked, and that is left to who cuts them out."""
    whole = all(text.sendable is None for text in messages.texts)
    ranks = begin_ranks(selectors if whole else (), messages.cache, messages.tokens)

    def each() -> list[tuple[KVCache, Text]]:
        told = zip(messages.tokens, ranks(), messages.texts, strict=True)
        return [
            (Seen.of_row(messages.cache, row, tokens, known), text)
            for row, (tokens, known, text) in enumerate(told)
        ]

    return each


def _of_examples(of: Sequence[int], kept: SentRows, sizes: Callable[[], Sizes]) -> Sizes:
    """Each example's of the messages' sizes; a message that was refused has no bytes."""
    wire_bytes, elements = sizes()
    sent = [length if own.sections else 0 for length, own in zip(wire_bytes, kept, strict=True)]
    return [sent[message] for message in of], [elements[message] for message in of]


def _donor(sends: Sends) -> int:
    """Which donor's prompt the sharer reads for it; 0: the question's own."""
    control, donor = sends
    return donor if is_lent(control) else 0


def slots_needed(
    pair: LoadedPair,
    questions: Sequence[Question],
    donors: Sequence[Question],
    max_new_tokens: int,
) -> int:
    """Slots for any row's prompt and answer, and for what may stand in front of them."""
    front = [
        len(source.prompts.sharer_ids) for source in (*questions, *donors) if pair.interface.inserts
    ]
    prompts = [len(receivers_text(question).ids) for question in questions]
    alone = [len(question.prompts.everything) for question in questions]  # the sharer's
    return max(max(front, default=0) + max(prompts), *alone) + max_new_tokens


def fit_length(
    cache: KVCache, rows: Sequence[int], lent: Sequence[Text], own: Sequence[Text]
) -> KVCache:
    """`pipeline.fitted` for a batch: row b is row rows[b] of `cache`, of the text lent[b], brought
    to the length of own[b] and padded up to the longest (one at least)."""
    found = [places(*both) for both in zip(lent, own, strict=True)]
    tokens = max(1, *map(len, found))
    place = torch.tensor([each + [0] * (tokens - len(each)) for each in found])
    index = on_device(place, cache.keys[0].device)[:, None, :, None]
    picked = _index(rows, cache)

    def fitted(tensor: Tensor) -> Tensor:
        _, heads, _, width = tensor.shape  # of queries there are more heads
        return tensor[picked].gather(2, index.expand(-1, heads, -1, width))

    return cache.map(fitted)


def _nothing(layer: int) -> list[int]:
    return []


def _index(rows: Sequence[int], cache: KVCache) -> Tensor:
    return on_device(torch.tensor(rows), cache.keys[0].device)
