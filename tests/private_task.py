"""A task whose evidence the sharer alone reads, as small as one can be."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentwire.tasks.passage import PassageExample
from latentwire.tasks.rows import HubSplit, RowFields
from latentwire.tasks.task import Example, Prompts, Task, user_turn_token_ids


@dataclass(frozen=True)
class WithPassage(Task):
    """The sharer reads a passage, the receiver a question on it."""

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        fields = RowFields(row)
        question, answer, passage = map(fields.text, ("question", "answer", "passage"))
        return PassageExample(self.row_id(row, index), index, question, (), answer, passage)

    def prompt_text(self, example: Example) -> str:
        return f"{example.question} Answer in one word."

    def prompts(self, example: Example, tokenizer: Any) -> Prompts:
        assert isinstance(example, PassageExample)
        evidence = tuple(tokenizer.encode(example.passage + "\n", add_special_tokens=False))
        return Prompts(evidence, tuple(user_turn_token_ids(tokenizer, self.prompt_text(example))))

    def extract(self, output: str) -> str | None:
        return output.strip() or None


TASK = WithPassage(
    "with_passage",
    HubSplit("some/set", "main", "test", "with_passage/test.jsonl"),
    HubSplit("some/set", "main", "train", "with_passage/train.jsonl"),
    max_new_tokens=5,
)


def write_rows(folder: Path) -> Path:
    """The task's files below `folder`: passages of several lengths, one with two questions."""
    (folder / "with_passage").mkdir(parents=True)
    passages = ["The box is red.", "The hat is blue and old.", "My cat, which is grey, sleeps."]
    for split in ("test", "train"):
        rows = [
            {
                "id": f"{split}:{number}",
                "passage": passages[number // 2],
                "question": f"What colour {'is it' if number % 2 else 'has it now'}?",
                "answer": "red",
            }
            for number in range(5)
        ]
        path = folder / "with_passage" / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
