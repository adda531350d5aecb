"""Many examples under many conditions at once: `pipeline`, without doing the same work twice.

Questions are answered in batches of neighbouring lengths, the longest first, each batch under all
conditions (see `batch`). Packets are not made: their effect and length are computed, which tests
prove equal.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import takewhile

import torch
from torch import Tensor

from c2c.fast_ops import fast_steps
from c2c.pieces import rounded
from c2c.slot_cache import slot_attention
from latentwire.errors import Unanswerable
from latentwire.evaluation import baselines_batched
from latentwire.evaluation.batch import Answers, answer, slots_needed
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.memory import shrink_batch
from latentwire.evaluation.option_logprobs import by_label
from latentwire.evaluation.pipeline import written_record
from latentwire.evaluation.progress import Progress
from latentwire.evaluation.reading import Donors
from latentwire.evaluation.record import Record, unanswered
from latentwire.evaluation.room import example_bytes, room_for
from latentwire.evaluation.unanswerable import asked_alike, require_answerable
from latentwire.evaluation.workspace import Workspace
from latentwire.garbage import collect_young, gc_paused, keep_loaded
from latentwire.spec.axes import BASELINES
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question

OnFirstLogits = Callable[[Condition, int, Tensor], None]  # question's index, logits [vocabulary]

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
    models: baselines_batched.BatchedModels | None = None,
    on_first_logits: OnFirstLogits | None = None,
    forced_lengths: Mapping[Condition, Sequence[int]] | None = None,
) -> dict[Condition, list[Record]]:
    """Records of every condition, in the order of `questions`; donors[i] goes with questions[i],
    or donors[n][i] where conditions have several donors.

    `batch_size` is how many examples go together; None fits it to the memory there is. Should
    memory run out, less is tried. Calls for one pair may share `work`, which keeps buffers and CUDA
    graphs from one to the next; those for one question set `models` too, which keep what the sharer
    said of a question for those that it is lent to. `on_first_logits` is shown the logits from
    which each answer starts. `forced_lengths` are, for timings, the answers' lengths in tokens,
    stop tokens or not.

    A question that cannot be answered under a condition gets the record of that, as in
    `pipeline`. Raises LatentWireError when not even one example under one condition fits; C2CError
    for models that cannot be evaluated in batches.
    """
    keep_loaded()
    work = work or Workspace(pair)
    lent = donors if isinstance(donors, Mapping) else {1: donors}
    found: dict[Condition, list[Record]] = {}
    competing = [c for c in dict.fromkeys(conditions) if c.system in BASELINES]
    if competing:
        work.serve("competing")
        found |= baselines_batched.evaluate(
            work, competing, questions, lent, batch_size, progress, models
        )
    rest = [c for c in dict.fromkeys(conditions) if c not in found]
    if rest:
        work.serve("caches")
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
        # Answers of the last batch of which records are still to be made
        self.unrecorded: list[tuple[Condition, Answers, list[int]]] = []

    def finished(self) -> dict[Condition, list[Record]]:
        """All records: of what cannot be answered, then of the rest, batch by batch."""
        self.refuse()
        models = tuple(dict.fromkeys((self.work.pair.receiver, self.work.pair.sharer)))
        # A search for garbage in the middle of a batch is one for which the device waits.
        with gc_paused(), slot_attention(*models), fast_steps(*models):
            self.answer_all()
        return {c: [_made(record) for record in kept] for c, kept in self.records.items()}

    def refuse(self) -> None:
        """Record what is seen to be unanswerable before any model is asked."""
        reasons: dict[Hashable, list[str]] = {}  # conditions have them in common
        for condition, kept in self.records.items():
            pairs = list(zip(self.questions, self.donors[condition.donor], strict=True))
            alike = asked_alike(condition)
            if alike not in reasons:
                reasons[alike] = [_reason(self.work.pair, condition, *pair) for pair in pairs]
            refused = [row for row, reason in enumerate(reasons[alike]) if reason]
            for row in refused:
                kept[row] = unanswered(condition, *pairs[row], reasons[alike][row])
            if refused:
                self.progress(len(refused))

    def missing(self, row: int) -> list[Condition]:
        """Under which a question has no record yet."""
        return [condition for condition, kept in self.records.items() if kept[row] is None]

    def answer_all(self) -> None:
        # The longest first: what they need, all others find.
        waiting = [row for row in range(len(self.questions)) if self.missing(row)]
        needed = [self.slots([row]) for row in range(len(self.questions))]
        self.longest = defaultdict[int, int](int)
        for row in waiting:
            message = self.message_of[row]
            self.longest[message] = max(self.longest[message], needed[row])
        # Questions that get one message stand together: it is made once a batch.
        waiting.sort(key=lambda row: (-self.needed(row), self.message_of[row], -needed[row]))
        self.plan(waiting)
        while waiting:
            rows, lacking = self.next_batch(waiting), self.missing(waiting[0])
            asked = lacking[: self.together]
            answers = self.answers(asked, rows)
            if answers is None:
                self.shrink(rows, len(asked))
                self.plan(waiting)
                continue
            self.record()
            self.unrecorded = [(*each, rows) for each in answers.items()]
            if len(asked) == len(lacking):
                waiting = waiting[len(rows) :]
            else:
                self.record()  # what is still missing is asked next
        self.record()

    def slots(self, rows: Sequence[int]) -> int:
        """That each of these questions needs where they go together."""
        questions = [self.questions[row] for row in rows]
        lent = [each[row] for each in self.donors.values() for row in rows]
        most_new_tokens = max(question.task.max_new_tokens for question in questions)
        return slots_needed(self.work.pair, questions, lent, most_new_tokens)

    @cached_property
    def message_of(self) -> list[int]:
        """Of each question the first that gets the same message: on the evidence that the sharer
        alone reads. Others are alone."""
        first: dict[tuple[int, ...], int] = {}
        return [
            first.setdefault(question.prompts.sharer_ids, row) if question.prompts.private else row
            for row, question in enumerate(self.questions)
        ]

    def needed(self, row: int) -> int:
        """Slots that the longest of the questions with this one's message needs."""
        return self.longest[self.message_of[row]]

    def plan(self, waiting: Sequence[int]) -> None:
        """Have decoders made that all batches to come fit in."""
        work, conditions = self.work, self.conditions
        most = -(-max(map(self.needed, waiting), default=0) // SAME_SLOTS) * SAME_SLOTS
        if not self.batch_size and not (work.room and work.room.serves(conditions, most)):
            work.release()
            work.room = room_for(work.pair, conditions, most, work.at_once.tokens)
        work.most_examples = work.most_slots = 0
        while waiting:
            rows = self.next_batch(waiting)
            work.most_examples = max(work.most_examples, len(rows))
            work.most_slots = max(work.most_slots, len(rows) * rounded(self.slots(rows)))
            waiting = waiting[len(rows) :]

    def next_batch(self, waiting: Sequence[int]) -> list[int]:
        """The first of those that wait, as many as go together: the shorter, the more."""
        most, pair = self.batch_size, self.work.pair
        if not most:
            assert self.work.room is not None
            most = self.work.room.examples(pair, self.conditions, self.needed(waiting[0]))
        most = _balanced_batch_size(len(waiting), most)
        most = _whole_messages([self.message_of[row] for row in waiting[: most + 1]], most)
        return _same_pending_prefix(waiting[:most], self.missing)

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
                self.record_some,
            )
        )

    def shrink(self, rows: Sequence[int], conditions: int) -> None:
        """Try less after these questions were too many under so many conditions."""
        most, self.together = shrink_batch(self.work.pair.device, len(rows), conditions)
        if self.batch_size:
            self.batch_size = most
        elif self.work.room is not None:  # known to the next call too
            each = example_bytes(self.work.pair, self.conditions, self.needed(rows[0]))
            self.work.room = replace(self.work.room, usable_bytes=most * each)

    def record(self) -> None:
        """Make the records of the last batch that are missing."""
        while self.unrecorded:
            self.record_some()
        self.work.on_phase_end("records")

    def record_some(self) -> None:
        """Make those of one condition, if any is missing."""
        if not self.unrecorded:
            return
        pair, (condition, found, rows) = self.work.pair, self.unrecorded.pop()
        for row, tokens, logprobs, labels, *sizes, reason in zip(rows, *found, strict=True):
            donor = self.donors[condition.donor][row]
            asked_and_lent = condition, self.questions[row], donor
            self.records[condition][row] = (
                unanswered(*asked_and_lent, reason)
                if reason
                else written_record(
                    *(pair, *asked_and_lent, tokens, *sizes),
                    option_logprobs=by_label(labels, logprobs),
                )
            )
        self.progress(len(rows))
        if not self.unrecorded:
            collect_young()


def _reason(pair: LoadedPair, condition: Condition, question: Question, donor: Question) -> str:
    """Why a question cannot be answered; "" where nothing is in the way."""
    try:
        require_answerable(pair, condition, question, donor)
        return ""
    except Unanswerable as reason:
        return str(reason)


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


def _balanced_batch_size(waiting: int, most: int) -> int:
    """At most `most` of those that wait, in batches as equal as can be."""
    batches = -(-waiting // most)
    return -(-waiting // batches)
