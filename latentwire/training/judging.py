"""How good a fuser is while it is trained: its answers to validation questions, own and lent."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from c2c.checkpoint import cast_weights
from c2c.fuser import Projectors
from latentwire.controls.registry import DERANGED, MATCHED
from latentwire.evaluation.engine import evaluate
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.record import Record
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange


@dataclass(frozen=True)
class Judgement:
    """What a fuser scored at a step: shares of the questions, means over the codecs asked for."""

    step: int
    accuracy: float  # or the mean of what else the tasks' metrics are
    accuracy_deranged: float  # with another question's message
    pairing_gain: float
    wire_bytes_mean: float
    examples: int

    def told(self) -> str:
        """In words, as a line of output has it."""
        return (
            f"matched {100 * self.accuracy:.1f}, deranged {100 * self.accuracy_deranged:.1f}, gain"
            f" {100 * self.pairing_gain:+.1f} points at {self.wire_bytes_mean:,.0f} bytes"
            f" ({self.examples} questions)"
        )

    def metrics(self) -> dict[str, float]:
        """By name, as a run has them."""
        named = {name: value for name, value in vars(self).items() if name != "step"}
        return {f"validation_{name}": float(value) for name, value in named.items()}


class Judge:
    """Asks validation questions; whose message a question is lent is drawn once, task by task."""

    def __init__(
        self, questions: Sequence[Question], channels: Sequence[Channel], seed: int
    ) -> None:
        by_task: dict[str, list[Question]] = {}
        for question in questions:
            by_task.setdefault(question.task.name, []).append(question)
        self.questions = [question for part in by_task.values() for question in part]
        self._donors = [lent for part in by_task.values() for lent in derange(part, seed)]
        self._channels = channels

    def judge(self, step: int, pair: LoadedPair) -> Judgement:
        """What `pair` scores, whose fuser is as it would be evaluated (`as_evaluated`)."""
        conditions = {
            control: [Condition(C2C, channel, control) for channel in self._channels]
            for control in (MATCHED, DERANGED)
        }
        work = Workspace(pair)
        asked = [condition for group in conditions.values() for condition in group]
        found = evaluate(pair, asked, self.questions, self._donors, work=work)
        work.release()
        own, lent = (
            [record for condition in group for record in found[condition]]
            for group in conditions.values()
        )
        accuracy, deranged = _accuracy(own), _accuracy(lent)
        return Judgement(
            step=step,
            accuracy=accuracy,
            accuracy_deranged=deranged,
            pairing_gain=accuracy - deranged,
            wire_bytes_mean=sum(record.wire_bytes for record in own) / len(own),
            examples=len(self.questions),
        )


def as_evaluated(fuser: Projectors, dtype: torch.dtype) -> Projectors:
    """A copy of a fuser in training as loading its checkpoint would give it."""
    copied = copy.deepcopy(fuser).requires_grad_(False).eval()
    cast_weights(copied, dtype)
    return copied


def _accuracy(records: Sequence[Record]) -> float:
    return sum(record.value for record in records) / len(records)
