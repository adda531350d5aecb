"""Many examples under many conditions at once: `pipeline`, without doing the same work twice.

Questions are answered in batches of neighbouring lengths, the longest first, each batch under all
conditions (see `batch`). Packets are not made: their effect and length are computed, which tests
prove equal.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile

import torch
from torch import Tensor

from c2c.cache import geometry
from c2c.fast_ops import fast_steps
from c2c.slot_cache import slot_attention
from latentwire.controls.registry import is_lent
from latentwire.errors import Unanswerable
from latentwire.evaluation import baselines_batched
from latentwire.evaluation.batch import (
    Answers,
    answer,
    need_queries,
    query_heads,
    slots_needed,
)
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.memory import shrink_batch, usable_bytes
from latentwire.evaluation.pipeline import written_record
from latentwire.evaluation.progress import Progress
from latentwire.evaluation.reading import Donors
from latentwire.evaluation.record import Record, unanswered
from latentwire.evaluation.unanswerable import require_answerable
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.axes import BASELINES
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question

log = logging.getLogger("latentwire")

OnFirstLogits = Callable[[Condition, int, Tensor], None]  # question's index, logits [vocabulary]

PLAIN_EXAMPLES = 32  # without a GPU: more do not pay for themselves
SAME_SLOTS = 128


@torch.inference_mode()
def evaluate(
    pair: LoadedPair,
    conditions: Sequence[Condition],
    questions: Sequence[Question],
    donors: Sequence[Question] | Donors,
    batch_size: int | None = None,
    progress: Progress = lambda done: None,
    *,
    work: Workspace | None = None,
    on_first_logits: OnFirstLogits | None = None,
    forced_lengths: Mapping[Condition, Sequence[int]] | None = None,
) -> dict[Condition, list[Record]]:
    """Records of every condition, in the order of `questions`; donors[i] goes with questions[i],
    or donors[n][i] where conditions have several donors.

    `batch_size` is how many examples go together; None fits it to the memory there is. Should
    memory run out, less is tried. Calls for one pair may share `work`, which keeps buffers and CUDA
    graphs from one to the next. `on_first_logits` is shown the logits from which each answer
    starts. `forced_lengths` are, for timings, the answers' lengths in tokens, stop tokens or not.

    A question that cannot be answered under a condition gets the record of that, as in
    `pipeline`. Raises LatentWireError when not even one example under one condition fits; C2CError
    for models that cannot be evaluated in batches.
    """
    work = work or Workspace(pair)
    lent = donors if isinstance(donors, Mapping) else {1: donors}
    found: dict[Condition, list[Record]] = {}
    competing = [c for c in dict.fromkeys(conditions) if c.system in BASELINES]
    if competing:
        found |= baselines_batched.evaluate(work, competing, questions, lent, batch_size, progress)
    rest = [c for c in dict.fromkeys(conditions) if c not in found]
    if competing and rest:
        # The decoders of one kind would leave no room for those of the other.
        work.release()
    for alignment in dict.fromkeys(c.alignment for c in rest):
        under = cache(partial(Question.under, alignment=alignment))
        call = _Call(
            work,
            [c for c in rest if c.alignment == alignment],
            list(map(under, questions)),
            {number: list(map(under, each)) for number, each in lent.items()},
            batch_size,
            progress,
            on_first_logits,
            forced_lengths,
        )
        found |= call.finished()
    return {c: found[c] for c in conditions}


@dataclass
class _Call:
    """Questions under conditions that none competes with, and the records so far."""

    work: Workspace
    conditions: list[Condition]
    questions: Sequence[Question]
    donors: Donors
    batch_size: int | None
    progress: Progress
    on_first_logits: OnFirstLogits | None
    forced_lengths: Mapping[Condition, Sequence[int]] | None

    def __post_init__(self) -> None:
        self.together = len(self.conditions)  # in a batch
        self.records: dict[Condition, list[Record | None]] = {
            c: [None] * len(self.questions) for c in self.conditions
        }

    def finished(self) -> dict[Condition, list[Record]]:
        """All records: of what cannot be answered, then of the rest, batch by batch."""
        for condition, kept in self.records.items():
            for row, pair in enumerate(
                zip(self.questions, self.donors[condition.donor], strict=True)
            ):
                kept[row] = _refused(self.work.pair, condition, *pair)
            if refused := sum(record is not None for record in kept):
                self.progress(refused)
        models = tuple(dict.fromkeys((self.work.pair.receiver, self.work.pair.sharer)))
        with slot_attention(*models), fast_steps(*models):
            self.answer_all()
        return {c: [_made(record) for record in kept] for c, kept in self.records.items()}

    def missing(self, row: int) -> list[Condition]:
        """Under which a question has no record yet."""
        return [c for c in self.conditions if self.records[c][row] is None]

    def answer_all(self) -> None:
        # The longest first: what they need, all others find.
        waiting = [row for row in range(len(self.questions)) if self.missing(row)]
        needed = [
            _slots(self.work.pair, question, lent)
            for question, *lent in zip(self.questions, *self.donors.values(), strict=True)
        ]
        shared = _message_of(self.questions)
        longest: dict[int, int] = defaultdict(int)
        for row in waiting:
            longest[shared[row]] = max(longest[shared[row]], needed[row])
        # Questions that get one message stand together: it is made once a batch.
        waiting.sort(key=lambda row: (-longest[shared[row]], shared[row], -needed[row]))
        slots = -(-max((needed[row] for row in waiting), default=0) // SAME_SLOTS) * SAME_SLOTS
        while waiting:
            room = self.batch_size or _room(self.work, self.conditions, slots)
            lacking = self.missing(waiting[0])
            most = _whole_messages(
                [shared[row] for row in waiting], _balanced_batch_size(len(waiting), room)
            )
            rows = _same_pending_prefix(waiting[:most], self.missing)
            asked = lacking[: self.together]
            answers = self.answers(asked, rows)
            if answers is None:
                self.shrink(len(rows), len(asked))
                continue
            self.keep(answers, rows)
            if len(asked) == len(lacking):
                waiting = waiting[len(rows) :]

    def answers(self, asked: list[Condition], rows: list[int]) -> dict[Condition, Answers] | None:
        """Of one batch; None where memory does not suffice."""
        on_first_logits, forced_lengths = self.on_first_logits, self.forced_lengths
        return self.work.attempt(
            lambda: answer(
                self.work,
                asked,
                [self.questions[row] for row in rows],
                {number: [each[row] for row in rows] for number, each in self.donors.items()},
                max(self.questions[row].task.max_new_tokens for row in rows),
                _by_row(on_first_logits, rows) if on_first_logits else lambda shown, logits: None,
                forced_lengths and {c: [forced_lengths[c][row] for row in rows] for c in asked},
            )
        )

    def shrink(self, examples: int, conditions: int) -> None:
        """Try less after that many were too many."""
        most, self.together = shrink_batch(self.work.pair.device, examples, conditions)
        if self.batch_size:
            self.batch_size = most
        elif self.work.capacity is not None:  # known to the next call too
            self.work.capacity = self.work.capacity[0], most

    def keep(self, answers: dict[Condition, Answers], rows: list[int]) -> None:
        """Make the records of a batch."""
        pair = self.work.pair
        for condition, found in answers.items():
            for row, tokens, logprobs, *sizes, reason in zip(rows, *found, strict=True):
                donor = self.donors[condition.donor][row]
                asked_and_lent = condition, self.questions[row], donor
                self.records[condition][row] = (
                    unanswered(*asked_and_lent, reason)
                    if reason
                    else written_record(
                        pair, *asked_and_lent, tokens, *sizes, option_logprobs=logprobs
                    )
                )
        self.work.on_phase_end("records")
        self.progress(len(answers) * len(rows))


def _refused(
    pair: LoadedPair, condition: Condition, question: Question, donor: Question
) -> Record | None:
    """The record of a question that is seen to be unanswerable before any model is asked."""
    try:
        require_answerable(pair, condition, question, donor)
        return None
    except Unanswerable as reason:
        return unanswered(condition, question, donor, str(reason))


def _message_of(questions: Sequence[Question]) -> list[int]:
    """Of each question the first that gets the same message: on the evidence that the sharer alone
    reads. Others are alone."""
    first: dict[tuple[int, ...], int] = {}
    return [
        first.setdefault(question.prompts.sharer_ids, row) if question.prompts.private else row
        for row, question in enumerate(questions)
    ]


def _whole_messages(messages: Sequence[int], most: int) -> int:
    """At most so many of the questions, whose messages these are, that none is made in two
    batches; `most` where the first message alone serves more."""
    cut = most
    while 0 < cut < len(messages) and messages[cut - 1] == messages[cut]:
        cut -= 1
    return cut or most


def _same_pending_prefix(
    rows: Sequence[int], missing: Callable[[int], list[Condition]]
) -> list[int]:
    """Those at the front that lack the same conditions: where memory ran out, some of a batch's
    may be done already."""
    lacking = missing(rows[0])
    return list(takewhile(lambda row: missing(row) == lacking, rows))


def _made(record: Record | None) -> Record:
    assert record is not None
    return record


def _by_row(on_first_logits: OnFirstLogits, rows: Sequence[int]) -> Callable[..., None]:
    """Tell a batch's logits [conditions, B, vocabulary] row by row."""

    def see(conditions: Sequence[Condition], logits: Tensor) -> None:
        for condition, lines in zip(conditions, logits, strict=True):
            for row, line in zip(rows, lines, strict=True):
                on_first_logits(condition, row, line)

    return see


def _slots(pair: LoadedPair, question: Question, donors: Sequence[Question]) -> int:
    """Slots that a question needs."""
    return slots_needed(pair, [question], donors, question.task.max_new_tokens)


def _room(work: Workspace, conditions: Sequence[Condition], slots: int) -> int:
    """How many examples go together: one number for a whole call, so that its batches use the same
    buffers and graphs, and for later calls that need no more. Worked out on a device made free."""
    known = work.capacity is not None and work.capacity[0][1] == frozenset(conditions)
    if work.capacity is None or not known or work.capacity[0][0] < slots:
        work.release()
        fits = examples_that_fit(work.pair, conditions, slots, work.at_once.tokens)
        work.capacity = (slots, frozenset(conditions)), fits
    return work.capacity[1]


def _balanced_batch_size(waiting: int, most: int) -> int:
    """At most `most` of those that wait, in batches as equal as can be."""
    batches = -(-waiting // most)
    return -(-waiting // batches)


def examples_that_fit(
    pair: LoadedPair, conditions: Sequence[Condition], slots: int, tokens_at_once: int
) -> int:
    """How many examples go together: as many as fit in free memory, one at least."""
    usable, most = usable_bytes(pair.device), None
    if pair.device.type == "cuda":
        usable -= _activation_bytes(pair, slots, tokens_at_once)
    else:
        most = PLAIN_EXAMPLES
    example = example_bytes(pair, conditions, slots)
    fits = max(1, usable // example)
    examples = fits if most is None else min(fits, most)
    log.info(
        "%d slots a row: %.2f GB usable, %.1f MB an example under %d conditions: %d together",
        slots,
        usable / 1e9,
        example / 1e6,
        len(conditions),
        examples,
    )
    return examples


def example_bytes(pair: LoadedPair, conditions: Sequence[Condition], slots: int) -> int:
    """Memory that one example takes under all conditions: caches, and logits of its rows."""
    receiver, sharer = (geometry(model.config) for model in (pair.receiver, pair.sharer))
    number = pair.dtype.itemsize
    own, sent = (2 * g.layers * g.width * slots * number for g in (receiver, sharer))
    vocabulary = pair.receiver.config.get_text_config().vocab_size
    logits = 3 * vocabulary * number
    fused = [c for c in conditions if c.channel]
    by_receiver = len([c for c in conditions if c.system == "receiver"]) + len(fused)
    by_sharer = len(conditions) - by_receiver
    # Prompts of one batch that are asked and lent; each cache sent; what arrives of it.
    lent = {c.donor for c in fused if is_lent(c.control)}
    caches = 1 + max(1, len(lent)) + len({c.sends for c in fused})
    passed = sum(c.channel.keep_ratio for c in fused if c.channel)
    asked = need_queries(fused) * query_heads(pair.sharer) / (2 * sharer.kv_heads)
    shared = own + caches * sent * (1 + asked)
    return int(shared + by_receiver * (own + logits) + by_sharer * (sent + logits) + passed * sent)


def _activation_bytes(pair: LoadedPair, slots: int, tokens_at_once: int) -> int:
    """Memory for what lies between layers while many tokens are read or fused."""
    widths = []
    for model in (pair.receiver, pair.sharer):
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        groups = heads // geometry(config).kv_heads
        hidden = max(config.intermediate_size, heads * geometry(config).head_dim)
        widths.append(8 * hidden + 4 * groups * slots)  # and the mask of folded attention
    return tokens_at_once * max(widths) * pair.dtype.itemsize
