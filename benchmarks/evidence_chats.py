"""Chats for training a prefix, from training splits alone: some evidence, and questions about it.

    PYTHONPATH=.:C2C python benchmarks/evidence_chats.py DATA_DIR chats.jsonl
    mlflow run . -e train -P pair=mine.yaml -P data=chats.jsonl -P dataset=openbookqa_fact

Of `openbookqa_fact`, `arc_e` and `commonsense_qa` every training question, as the task asks it: of
the first the sharer alone reads the fact, of the others, which have none, the prompt. Beside them
7,000 paragraphs of 4 to 14 facts, and of one the beginning: the answer is how it goes on. DATA_DIR
is laid out as the hub's datasets are (`data_dir` of every milestone).
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latentwire.tasks import arc_e, commonsense_qa, openbookqa_fact
from latentwire.tasks.task import Task

SEED = 7
PARAGRAPHS = 7000
FACTS = range(4, 15)  # in a paragraph
LEAST_WORDS = 6  # of a fact that is continued
_ASK = """Answer the question about the text in as few words of the text as possible. Write these \
words and nothing else.

Question: How does the sentence go on that begins with "{}"?"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    generator = random.Random(SEED)
    chats = list(continued(rows(openbookqa_fact.TASK, options.data_dir), generator))
    for task in (openbookqa_fact.TASK, arc_e.TASK, commonsense_qa.TASK):
        chats += asked(task, rows(task, options.data_dir))
    generator.shuffle(chats)
    options.file.write_text("".join(f"{json.dumps(chat)}\n" for chat in chats))
    print(f"{len(chats)} chats: {options.file}")


def rows(task: Task, data_dir: Path) -> list[dict[str, Any]]:
    """A task's training split."""
    assert task.training is not None
    lines = (data_dir / task.training.file).read_text().splitlines()
    return [json.loads(line) for line in lines]


def continued(rows: list[dict[str, Any]], generator: random.Random) -> Iterator[dict[str, Any]]:
    """Paragraphs of facts, one of which is to be continued."""
    every = sorted({row["fact1"].strip() for row in rows})
    facts = [fact for fact in every if len(fact.split()) >= LEAST_WORDS]
    for _ in range(PARAGRAPHS):
        some = generator.sample(facts, generator.randint(FACTS[0], FACTS[-1]))
        words = generator.choice(some).split()
        cut = generator.randint(max(2, len(words) // 3), len(words) - 2)
        text = " ".join(fact[0].upper() + fact[1:].removesuffix(".") + "." for fact in some)
        yield chat(_ASK.format(" ".join(words[:cut])), " ".join(words[cut:]), text)


def asked(task: Task, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A task's questions as it asks them, with the evidence that it has."""
    for index, row in enumerate(rows):
        if example := task.example(row, index):
            evidence = example.evidence
            yield chat(task.prompt_text(example), task.target(example), evidence)


def chat(question: str, answer: str, evidence: str | None) -> dict[str, Any]:
    turns = [("user", question), ("assistant", answer)]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"messages": messages} | ({"evidence": evidence} if evidence else {})


if __name__ == "__main__":
    main()
