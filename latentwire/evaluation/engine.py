"""Many examples under many conditions at once: `pipeline`, without doing the same work twice.

Examples of one prompt length form a batch, so nothing is padded. In a batch the sharer reads each
prompt once and the receiver reads each instruction once for all conditions; what a condition adds
is its codec's loss, the fusion of the tokens it keeps, the tail after a `front` section, and
decoding. Packets are not made: their effect and length are computed, which tests prove equal.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from c2c import sharer
from c2c.cache import KVCache, concatenate, to_transformers
from c2c.receiver import Prefilled, extend, greedy
from latentwire.condition import MAX_NEW_TOKENS, Channel, Condition
from latentwire.errors import LatentWireError
from latentwire.evaluation.pair import LoadedPair, stop_ids
from latentwire.evaluation.pipeline import controlled, outcome
from latentwire.evaluation.question import Question, by_length
from latentwire.evaluation.record import Record

Progress = Callable[[int], None]  # told how many (example, condition) pairs have just been done


@torch.inference_mode()
def evaluate(
    pair: LoadedPair,
    conditions: Sequence[Condition],
    questions: Sequence[Question],
    donors: Sequence[Question],
    batch_size: int,
    progress: Progress = lambda done: None,
) -> dict[Condition, list[Record]]:
    """Records of every condition, in the order of `questions`; donors[i] goes with questions[i]."""
    records: dict[Condition, list[Record | None]] = {c: [None] * len(questions) for c in conditions}
    for rows in _batches(questions, batch_size):
        asked = [questions[row] for row in rows]
        lent = [donors[row] for row in rows]
        batch = _Batch(pair, asked, lent)
        for condition in conditions:
            answers, wire_bytes = batch.answer(condition)
            for row, question, donor, answer, length in zip(
                rows, asked, lent, answers, wire_bytes, strict=True
            ):
                records[condition][row] = outcome(pair, condition, question, donor, answer, length)
            progress(len(rows))
    return {c: [record for record in kept if record] for c, kept in records.items()}


def _batches(questions: Sequence[Question], batch_size: int) -> Iterator[list[int]]:
    """Indices of questions with prompts of one length, at most `batch_size` together."""
    for rows in by_length(questions).values():
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


@dataclass
class _Batch:
    """Questions with prompts of n tokens, and the caches that conditions share (made on demand)."""

    pair: LoadedPair
    questions: Sequence[Question]
    donors: Sequence[Question]
    _shared: dict[str, KVCache] = field(default_factory=dict)

    @property
    def token_ids(self) -> Tensor:
        """[B, n]."""
        return torch.tensor([q.token_ids for q in self.questions], device=self.pair.device)

    @property
    def instruction_tokens(self) -> int:
        return len(self.questions[0].token_ids) - 1

    def answer(self, condition: Condition) -> tuple[list[list[int]], list[int]]:
        """Token ids of each answer, and the length of each packet in bytes."""
        wire_bytes = [0] * len(self.questions)
        model = self.pair.sharer if condition.system == "sharer" else self.pair.receiver
        if condition.system == "c2c":
            assert condition.channel is not None
            wire_bytes, prefilled = self._fused(condition.channel, condition.control)
        elif condition.system == "sharer":
            prefilled = self._read_rest(model, self._sent("matched"))
        else:
            prefilled = self._read_rest(model, self._own())
        if not bool(torch.isfinite(prefilled.logits).all()):
            raise LatentWireError(
                f"{condition.label}: a model gave logits that are NaN or infinite; in fp16 try"
                " bf16 or fp32 (-P dtype=float32)"
            )
        return greedy(model, prefilled, MAX_NEW_TOKENS, stop_ids(model)), wire_bytes

    def _fused(self, channel: Channel, control: str) -> tuple[list[int], Prefilled]:
        """Each packet's length, and the receiver after the prompt, with the kept tokens fused."""
        own = self._own()
        prompt_tokens = [len(question.token_ids) for question in self.questions]
        positions, received, wire_bytes = self.pair.link.pass_through(
            channel, self._sent(control), prompt_tokens
        )
        kept = positions[0]  # prompts of one length keep the same positions
        if not kept:
            return wire_bytes, self._read_rest(self.pair.receiver, own)
        parts = [self.pair.fuser(received, own.section(kept.start, kept.stop))]
        if kept.start:
            parts.insert(0, own.section(0, kept.start))
        return wire_bytes, self._read_rest(self.pair.receiver, concatenate(parts, dim=2))

    def _read_rest(self, model: torch.nn.Module, before: KVCache) -> Prefilled:
        """Run what the prompt has after `before`."""
        cache: DynamicCache = to_transformers(before)
        return Prefilled(extend(model, cache, self.token_ids[:, before.tokens :]), cache)

    def _own(self) -> KVCache:
        """The receiver's cache of the instruction, before any fusion."""
        return self._once("own", lambda: sharer.read(self.pair.receiver, self.token_ids))

    def _sent(self, control: str) -> KVCache:
        """The cache that the sharer has for the instruction under a control."""
        if control == "deranged":
            return self._once("deranged", self._deranged)
        matched = self._once("matched", lambda: sharer.read(self.pair.sharer, self.token_ids))
        return matched if control == "matched" else matched.map(torch.zeros_like)

    def _deranged(self) -> KVCache:
        caches: dict[int, KVCache] = {}
        for rows in by_length(self.donors).values():
            ids = torch.tensor(
                [self.donors[row].token_ids for row in rows], device=self.pair.device
            )
            cache = sharer.read(self.pair.sharer, ids)
            fitted = controlled(cache, "deranged", self.instruction_tokens)
            for place, row in enumerate(rows):
                caches[row] = fitted.pick(torch.tensor([place], device=self.pair.device))
        return concatenate([caches[row] for row in range(len(self.donors))], dim=0)

    def _once(self, name: str, make: Callable[[], KVCache]) -> KVCache:
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]
