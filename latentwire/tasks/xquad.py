"""XQuAD, English: 1190 questions of SQuAD's development set on 240 passages (Artetxe et al., ACL
2020). The sharer alone reads the passage.

There is no training split: it is calibrated on BoolQ's passages. BoolQ's questions say little of
how words of a passage come through, for yes or no is guessed: ways to send one are chosen by blanks
in sentences of these passages.
"""

from dataclasses import dataclass
from typing import Any

from latentwire.tasks import boolq
from latentwire.tasks.blanks import BlanksOf
from latentwire.tasks.extractive import Extractive
from latentwire.tasks.rows import Expected, HubSplit
from latentwire.tasks.task import Example

_TEST = Expected(1190, 1190, "da2a2a2df06f4c42f4e0bd7d5ed2961b943040910903f1e451354b2bc6f955b2")
_PASSAGES = (*boolq.HUB, "validation", "boolq/validation.jsonl")
_BLANKS = Expected(2587, 2587, "d823b739a7f92791beb2d77c0d44e117c3bbfe723e59e5ffa81f1a098eac0354")


class _BoolQ(HubSplit):
    """BoolQ's passages, in place of a training split."""

    label = "training (BoolQ)"


@dataclass(frozen=True)
class _XQuAD(Extractive):
    """Rows with a `passage` in place of a `context` are BoolQ's."""

    def row_id(self, row: dict[str, Any], index: int) -> str:
        return boolq.TASK.row_id(row, index) if "passage" in row else super().row_id(row, index)

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        if "passage" in row:
            return boolq.TASK.example(row, index)
        return super().example(row, index)


TASK = _XQuAD(
    name="xquad",
    test=HubSplit("google/xquad", "xquad.en", "validation", "xquad/validation.jsonl", _TEST),
    training=_BoolQ(*_PASSAGES, boolq.SCORED),
    development=BlanksOf(*_PASSAGES, _BLANKS),
)
