"""Conditions that send no cache, many examples at once: what `baselines` says, in batches.

What the models are asked is worked out for all examples first and answered in batches: a prompt
once, however many conditions ask it; a message once, whose beginnings are the shorter ones. Then
each record is made as the definition makes it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from c2c.cache import geometry
from c2c.fast_ops import fast_steps
from c2c.on_device import on_device
from c2c.slot_cache import read, slot_attention
from c2c.steps import finished
from latentwire.errors import Unanswerable
from latentwire.evaluation import baselines
from latentwire.evaluation.baselines import (
    MessagePrompts,
    Prompt,
    or_raised,
    send_letter,
    send_text,
)
from latentwire.evaluation.loaded_pair import stop_ids
from latentwire.evaluation.memory import shrink_batch, usable_bytes
from latentwire.evaluation.padded_prompts import padded
from latentwire.evaluation.reading import Donors
from latentwire.evaluation.record import Record, source_of
from latentwire.evaluation.text_model import TextModel
from latentwire.evaluation.unanswerable import NOT_FINITE, finite_rows, require_room
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question
from latentwire.tasks.task import Options

_A = TypeVar("_A")

MOST_TOGETHER = {"cuda": 512}  # prompts in a batch: more does not make a GPU faster
FEW_TOGETHER = 32


class BatchedModels:
    """`baselines.Models` that have been asked already."""

    def __init__(self, work: Workspace, batch_size: int | None = None) -> None:
        self.pair, self.prompts = work.pair, MessagePrompts(work.pair)
        # One text at a time: packets are read by who gets the very same numbers.
        self.text_model = TextModel(work.pair)
        self._work, self._batch_size = work, batch_size
        # What was asked, and the answer, or the reason why there is none; of texts how many tokens
        # they might have had.
        self._written: dict[tuple[str, Prompt], tuple[int, list[int] | Unanswerable]] = {}
        self._logprobs: dict[tuple[str, Prompt, Options], np.ndarray | Unanswerable] = {}

    def write(self, name: str, prompt: Prompt, tokens: int) -> list[int]:
        """See `Models`. Greedy: a shorter text is the beginning of a longer one."""
        return or_raised(self._written[name, prompt][1])[:tokens]

    def option_logprobs(self, name: str, prompt: Prompt, options: Options) -> np.ndarray:
        """See `Models`."""
        return or_raised(self._logprobs[name, prompt, options])

    def keep_messages(self) -> None:
        """Forget what only the questions at hand ask, and keep what the sharer has said: another
        question of the set may be lent it."""
        for known in (self._written, self._logprobs):
            for key in [key for key in known if key[0] != "sharer"]:
                del known[key]  # type: ignore[arg-type]
        self.prompts = MessagePrompts(self.pair)

    def generate(self, name: str, prompts: Iterable[Prompt], tokens: int) -> None:
        """Have the model write to each prompt. Raises LatentWireError where not even one fits into
        memory."""
        model = self.pair.model(name)
        waiting = []
        for prompt in {prompt for prompt in prompts if not self._has(name, prompt, tokens)}:
            if reason := self._too_long(name, prompt):
                self._written[name, prompt] = tokens, reason
            else:
                waiting.append(prompt)
        if not waiting:
            return
        waiting.sort(key=lambda prompt: (-len(prompt), prompt))
        with slot_attention(model), fast_steps(model):
            most = self._batch_size or self._fitting(name, waiting[0], tokens)
            answers = self._in_batches(waiting, most, lambda rows: self._batch(name, rows, tokens))
            for prompt, answer in answers:
                self._written[name, prompt] = tokens, answer

    def _has(self, name: str, prompt: Prompt, tokens: int) -> bool:
        """Whether the model has written so much to a prompt, unless it ended before."""
        return self._written.get((name, prompt), (-1, []))[0] >= tokens

    def score_options(self, name: str, asked: Iterable[tuple[Prompt, Options]]) -> None:
        """Have the model's log-probabilities of each prompt's options. Raises as `generate`."""
        alike: dict[tuple[int, Options], list[Prompt]] = defaultdict(list)
        for prompt, options in dict.fromkeys(asked):
            if (name, prompt, options) in self._logprobs:
                continue
            if reason := self._too_long(name, prompt):
                self._logprobs[name, prompt, options] = reason
            else:
                alike[len(prompt), options].append(prompt)
        most = self._batch_size or FEW_TOGETHER
        for (_, options), prompts in alike.items():
            score = partial(self._options, name, options)
            for prompt, line in self._in_batches(prompts, most, score):
                self._logprobs[name, prompt, options] = line

    def _in_batches(
        self, prompts: Sequence[Prompt], most: int, run: Callable[[Sequence[Prompt]], Sequence[_A]]
    ) -> Iterator[tuple[Prompt, _A]]:
        """Each prompt with what `run` says of it, `most` at once, or fewer where memory ends."""
        while prompts:
            rows = prompts[:most]
            answers = self._work.attempt(partial(run, rows))
            if answers is None:
                most, _ = shrink_batch(self.pair.device, len(rows))
            else:
                yield from zip(rows, answers, strict=True)
                prompts = prompts[len(rows) :]

    def _options(
        self, name: str, options: Options, prompts: Sequence[Prompt]
    ) -> list[np.ndarray | Unanswerable]:
        """Each prompt's log-probabilities, or why there are none."""
        try:
            return baselines.logprobs_of(self.pair, name, prompts, options)
        except Unanswerable as reason:  # for all of them: their labels cannot be read
            return [reason] * len(prompts)

    def _too_long(self, name: str, prompt: Prompt) -> Unanswerable | None:
        try:
            require_room(self.pair.model(name), name, len(prompt))
            return None
        except Unanswerable as reason:
            return reason

    def _fitting(self, name: str, longest: Prompt, tokens: int) -> int:
        """How many prompts go together."""
        model, device = self.pair.model(name), self.pair.device
        shape = geometry(model.config)
        vocabulary = model.config.get_text_config().vocab_size
        slots = 2 * shape.layers * shape.width * (len(longest) + tokens)
        row_bytes = (2 * slots + 4 * vocabulary) * self.pair.dtype.itemsize  # twice: graphs, masks
        most = MOST_TOGETHER.get(device.type, FEW_TOGETHER)
        return max(1, min(most, usable_bytes(device) // row_bytes))

    def _batch(
        self, name: str, prompts: Sequence[Prompt], tokens: int
    ) -> list[list[int] | Unanswerable]:
        model = self.pair.model(name)
        longest = max(map(len, prompts))
        decoder = self._work.decoder(f"{name} writes", model, len(prompts), longest + tokens)
        slots = decoder.slots.rows(0, len(prompts))
        for tensor in (*slots.keys, *slots.values):
            tensor.zero_()  # what a former batch left there
        token_ids = padded(prompts, model.device)
        places = [len(prompt) - 1 for prompt in prompts]
        read(model, token_ids, [max(1, place) for place in places], slots, self._work.at_once)
        last = on_device(torch.tensor([prompt[-1] for prompt in prompts]), model.device)
        finite: list[bool] = []
        steps = decoder.greedy(
            last,
            places,
            tokens,
            stop_ids(model),
            on_first_logits=lambda logits: finite.extend(finite_rows(logits).tolist()),
        )
        written = finished(steps)
        return [
            answer if good else Unanswerable(NOT_FINITE)
            for answer, good in zip(written, finite, strict=True)
        ]


def evaluate(
    work: Workspace,
    conditions: Sequence[Condition],
    questions: Sequence[Question],
    donors: Donors,
    batch_size: int | None = None,
    progress: Callable[[int], object] = lambda done: None,
    models: BatchedModels | None = None,
) -> dict[Condition, list[Record]]:
    """Records of every condition, in the order of `questions`; donors[n][i] is donor n of
    questions[i]. `models` are those that other questions of the set have asked."""
    models = models or BatchedModels(work, batch_size)
    asked = {number: list(zip(questions, lent, strict=True)) for number, lent in donors.items()}

    def sources(system: str, private: bool = False) -> list[Question]:
        """Of which the sharer is asked something: where it alone reads evidence, or elsewhere."""
        found = (
            source_of(condition.control, *both)
            for condition in conditions
            if condition.system == system
            for both in asked[condition.donor]
        )
        return [source for source in found if source.prompts.private == private]

    messages = [c.message for c in conditions if c.message is not None and c.system == "text"]
    if messages:
        prompts = {models.prompts.message(source) for source in sources("text")}
        models.generate("sharer", prompts, max(message.tokens for message in messages))
    everyone = {question.task for pairs in asked.values() for both in pairs for question in both}
    most = max((task.max_new_tokens for task in everyone), default=0)
    for tokens in {c.message.tokens for c in conditions if c.system == "summary" and c.message}:
        told = {models.prompts.summary(s, tokens) for s in sources("summary", private=True)}
        models.generate("sharer", told, tokens)
    if letters := sources("letter"):
        models.generate("sharer", {source.prompts.sharer_ids for source in letters}, most)
    models.generate("receiver", _receivers_prompts(models, conditions, asked), most)
    models.score_options("sharer", ((s.prompts.sharer_ids, s.options) for s in sources("logits")))
    if any(condition.system in ("logits", "calibrated") for condition in conditions):
        own = ((q.prompts.receiver_ids, q.options) for q in questions)
        models.score_options("receiver", own)
    if any(condition.system == "calibrated" for condition in conditions):
        empty = ((ids, q.options) for q in questions for ids in models.prompts.content_free(q))
        models.score_options("receiver", empty)
    records = {}
    for condition in conditions:
        pairs = asked[condition.donor]
        records[condition] = [baselines.evaluate(models, condition, *both) for both in pairs]
        progress(len(pairs))
    models.keep_messages()
    return records


def _receivers_prompts(
    models: BatchedModels,
    conditions: Sequence[Condition],
    asked: Mapping[int, Sequence[tuple[Question, Question]]],
) -> set[Prompt]:
    """What the receiver writes an answer to, once the sharer has written."""
    found: set[Prompt] = set()
    # The longest texts first: a code of the receiver's model begins with those of the shorter ones.
    longest = sorted(conditions, key=lambda c: -c.message.tokens if c.message else 0)
    for condition in longest:
        for question, donor in asked[condition.donor]:
            source = source_of(condition.control, question, donor)
            with suppress(Unanswerable):  # the sharer has written nothing: nor does the receiver
                if condition.message is not None:
                    sent = send_text(models, condition.message, source, condition.system)
                    found.add(models.prompts.with_message(question, sent.text, condition.system))
                elif condition.system == "letter" and not send_letter(models, source):
                    found.add(question.prompts.receiver_ids)
    return found
