"""MMLU, test split: 57 subjects, four choices (Hendrycks et al., ICLR 2021)."""

from dataclasses import dataclass

from latentwire.tasks.numbered_choice import NumberedChoice
from latentwire.tasks.rows import Expected, HubSplit, RowFields

_TEST = Expected(14042, 14042, "08c4706bf648f4cedba17b8191f13c5fc007801618a68afce309b732fcc75a06")
_DEV = Expected(285, 285, "3f7ef6fddf176b36b0f580a58cdef72446d8c5e5e0c633d2884cdd03ffae42c8")
_HUB = ("cais/mmlu", "all")


@dataclass(frozen=True)
class ByNumber(NumberedChoice):
    """Rows: `question`, `choices` and `answer`, the place of the right one."""

    def read(self, fields: RowFields) -> tuple[str, list[str], int]:
        """See `NumberedChoice`."""
        return fields.text("question"), fields.texts("choices"), fields.integer("answer")


TASK = ByNumber(
    name="mmlu",
    test=HubSplit(*_HUB, "test", "mmlu/test.jsonl", _TEST),
    training=HubSplit(*_HUB, "dev", "mmlu/dev.jsonl", _DEV),
)
