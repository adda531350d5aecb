"""PIQA, validation split: two ways to a goal (Bisk et al., AAAI 2020). The test split has no keys.

The prompt is the protocol's, which names the letters A to D; answers are read as A or B.
"""

from dataclasses import dataclass

from latentwire.tasks.numbered_choice import NumberedChoice
from latentwire.tasks.rows import Expected, HubSplit, RowFields

_SCORED = Expected(1838, 1838, "9879e9ff03137dff0ee01538e4de8bd15225b0296a66b4ae77a8e8ebe4ca6def")
_HUB = ("ybisk/piqa", "plain_text")


@dataclass(frozen=True)
class _TwoWays(NumberedChoice):
    """Rows: `goal`, `sol1`, `sol2`, and `label`, 0 for the first and 1 for the second."""

    def read(self, fields: RowFields) -> tuple[str, list[str], int]:
        choices = [fields.text("sol1"), fields.text("sol2")]
        return fields.text("goal"), choices, fields.integer("label")


TASK = _TwoWays(
    name="piqa",
    letters="AB",
    test=HubSplit(*_HUB, "validation", "piqa/validation.jsonl", _SCORED),
    training=HubSplit(*_HUB, "train", "piqa/train.jsonl"),
)
