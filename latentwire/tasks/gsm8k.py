"""GSM8K, test split: problems in words whose answer is a number (Cobbe et al., 2021)."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from latentwire.tasks.rows import Expected, HubSplit, RowFields
from latentwire.tasks.task import Example, Task

_TEST = Expected(1319, 1319, "741a5533a17457a3dc68c75a6b041d3744a7e99cec798317a55a867662cacdd5")
_HUB = ("openai/gsm8k", "main")
_ASK = """Solve the following problem. Reason step by step, and end with "The answer is" and a \
number.

"""
_BEFORE_KEY = "####"
# A minus behind a digit is an operator; a comma that does not group three digits ends a number.
_NUMBER = re.compile(r"(?:(?<!\d)-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
_BEFORE_ANSWER = re.compile(r"####|answer is|answer:", re.IGNORECASE)


@dataclass(frozen=True)
class Problem(Task):
    """Rows: `question` and `answer`, the way to it and, behind ####, the number."""

    max_new_tokens: int = 320

    scored: ClassVar[str] = "problem with a number"

    def row_id(self, row: dict[str, Any], index: int) -> str:
        return f"{self.name}:{index}"

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        fields = RowFields(row)
        number = last_number(fields.text("answer").rpartition(_BEFORE_KEY)[2])
        if number is None:
            raise ValueError(f"field 'answer' must end with {_BEFORE_KEY} and a number")
        return Example(self.row_id(row, index), index, fields.text("question"), (), number)

    def prompt_text(self, example: Example) -> str:
        return _ASK + example.question

    def extract(self, output: str) -> str | None:
        """The first number behind the last "the answer is" or "####"; else the last number."""
        for said in reversed(_BEFORE_ANSWER.split(output)[1:]):
            if found := _NUMBER.search(said):
                return _plain(found[0])
        return last_number(output)

    def in_format(self, output: str) -> bool:
        return "The answer is" in output and self.extract(output) is not None

    def target(self, example: Example) -> str:
        return f"The answer is {example.answer}"


def last_number(text: str) -> str | None:
    """The last number of a text, in one spelling; None where it has none."""
    found = _NUMBER.findall(text)
    return _plain(found[-1]) if found else None


def _plain(number: str) -> str:
    """One spelling of a number: 1,000.50 is 1000.5."""
    value = Decimal(number.replace(",", ""))
    return f"{value.normalize():f}" if value else "0"


TASK = Problem(
    name="gsm8k",
    test=HubSplit(*_HUB, "test", "gsm8k/test.jsonl", _TEST),
    training=HubSplit(*_HUB, "train", "gsm8k/train.jsonl"),
)
