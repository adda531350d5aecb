"""Prompt and answer lengths of a published run, question by question: what a timing replays.

    python benchmarks/published_lengths.py PUBLISHED_PER_QUESTION.csv \
      results/published_lengths.csv.gz

makes the small table that is committed: one line a question, with the length of its prompt and of
its answer under each of the 11 C2C conditions of M0, M2 and M3. The baselines' answers are not in
the published table; they are taken to be as long as those of uncompressed C2C.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange
from latentwire.tasks.registry import task_of_records
from latentwire.tasks.task import Example, Prompts

LENGTHS = Path(__file__).parents[1] / "results" / "published_lengths.csv.gz"
FULL = ("bf16", "int8", "int4")
RATIOS = (0.75, 0.5, 0.25, 0.1)
C2C = [Channel(codec) for codec in FULL] + [
    Channel("int8", ratio, order) for ratio in RATIOS for order in ("front", "back")
]


@dataclass(frozen=True)
class Asked:
    """A question set as the engine takes it, and how long each answer is to be."""

    name: str
    questions: list[Question]
    donors: list[Question]
    forced_lengths: dict[Condition, list[int]]


def column(channel: Channel) -> str:
    """A channel's name in the table."""
    return f"{channel.codec} {channel.keep_ratio:g} {channel.order}"


def grid(deranged: bool) -> list[Condition]:
    """The 13 conditions of M0, M2 and M3, each C2C one with its control when `deranged`."""
    controls = ("matched", "deranged") if deranged else ("matched",)
    alone = [Condition("receiver"), Condition("sharer")]
    return alone + [Condition("c2c", channel, control) for channel in C2C for control in controls]


def read_sets(
    path: Path, conditions: list[Condition], vocabulary: int, limit: int | None
) -> list[Asked]:
    """The question sets of a table of lengths, in random token ids; the first `limit` of each.

    A control's answers are as long as those under `matched`.
    """
    table = pd.read_csv(path)
    sets = []
    for name, rows in table.groupby("dataset", sort=False):
        if limit:
            rows = rows.head(limit)
        questions = random_questions(str(name), rows["prompt_tokens"].tolist(), vocabulary)
        forced_lengths = {
            c: rows[column(c.channel or Channel("bf16"))].astype(int).tolist() for c in conditions
        }
        sets.append(Asked(str(name), questions, derange(questions, 42), forced_lengths))
    return sets


def random_questions(name: str, lengths: list[int], vocabulary: int) -> list[Question]:
    """Prompts of random token ids, so many each."""
    generator = random.Random(name)
    prompts = [tuple(generator.randrange(vocabulary) for _ in range(length)) for length in lengths]
    return [
        Question(
            task_of_records(name),
            Example(f"{name}:{index}", index, "", ("a", "b", "c", "d"), "ABCD"[index % 4]),
            Prompts(ids, ids),
        )
        for index, ids in enumerate(prompts)
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("published", type=Path)
    arguments.add_argument("output", type=Path)
    options = arguments.parse_args()
    table = pd.read_csv(options.published).rename(columns={"question_index": "question"})
    table["column"] = [
        column(Channel(scheme, ratio, order))
        for scheme, ratio, order in zip(
            table["scheme"], table["cache_proportion"], table["order_mode"], strict=True
        )
    ]
    table = table.drop_duplicates(["dataset", "question", "column"])
    wide = table.pivot(
        index=["dataset", "question", "prompt_tokens"], columns="column", values="generated_tokens"
    )[[column(channel) for channel in C2C]]
    wide.reset_index().to_csv(
        options.output, index=False, compression={"method": "gzip", "mtime": 0}
    )
    print(f"{options.output}: {len(wide)} questions")


if __name__ == "__main__":
    main()
