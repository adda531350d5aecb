"""HotpotQA, distractor setting, validation split: ten paragraphs, two of which hold the answer.

Yang et al., EMNLP 2018. The sharer alone reads the paragraphs.
"""

from dataclasses import dataclass
from typing import Any

from latentwire.tasks.extractive import Extractive
from latentwire.tasks.rows import Expected, HubSplit, RowFields
from latentwire.tasks.task import Example

_HUB = ("hotpotqa/hotpot_qa", "distractor")


@dataclass(frozen=True)
class _HotpotQA(Extractive):
    """Rows: `id`, `question`, `answer`, and `context` with the parallel lists `title` and
    `sentences` (a list of them for each title)."""

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        fields = RowFields(row)
        context = fields.within("context")
        titles, paragraphs = context.texts("title"), context.value("sentences")
        if not isinstance(paragraphs, list) or len(paragraphs) != len(titles):
            raise ValueError(f"there are {len(titles)} titles, and not as many lists of sentences")
        passage = "\n\n".join(
            f"{title}\n{''.join(map(str, sentences)).strip()}"
            for title, sentences in zip(titles, paragraphs, strict=True)
        )
        answers = [fields.text("answer")]
        return self.asked(fields.text("id"), index, fields.text("question"), answers, passage)


TASK = _HotpotQA(
    name="hotpotqa",
    test=HubSplit(*_HUB, "validation", "hotpotqa/validation.jsonl", Expected(7405, 7405)),
    training=HubSplit(*_HUB, "train", "hotpotqa/train.jsonl"),
)
