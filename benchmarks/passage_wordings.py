"""How much of the F1 of questions on passages is the prompt's wording?

    PYTHONPATH=.:C2C python benchmarks/passage_wordings.py MODEL DATA_DIR [--output FILE.json]

One model at both ends, the passage at the sharer alone, sent in 16 bits: all of XQuAD's questions
under each of the wordings below, and the blanks in BoolQ's passages by which something may be
chosen (`latentwire.tasks.blanks`). `two_turns` is what `xquad` asks: passage and question have a
turn each. The others are one turn, the receiver's prompt the rest of it. All are reported; nothing
is chosen here.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from c2c.chat import chat_text
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.pairs.load import SELF, load_pair
from latentwire.session.pair_in_use import PairInUse
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks import xquad
from latentwire.tasks.question import Question, derange, tokenize
from latentwire.tasks.rows import Source
from latentwire.tasks.task import Example, Prompts

PASSAGE = "Passage: {}\n\n"
# What follows it in the turn.
WORDINGS = {
    "words": "Answer the question about the text in as few words of the text as possible. Write"
    " these words and nothing else.\n\nQuestion: {}",
    "few_words": "Question: {}\nAnswer in as few words as possible.",
    "short_span": "Question: {}\nAnswer with a short span of the passage and nothing else.",
    "copied": "Question: {}\nGive only the answer, copied word for word from the passage.",
    "short_phrase": "Question: {}\nAnswer with a short phrase from the passage.",
    "phrase_first": "Answer the question with a short phrase from the passage.\n\nQuestion: {}",
    "span_first": "Answer the question with a short span of the passage and nothing else.\n\n"
    "Question: {}\nAnswer:",
    "only_the_answer": "Question: {}\nAnswer with only the answer, no explanation.",
    "briefly": "Question: {}\nAnswer briefly.",
    "shortly": "Answer the question using the passage. Be as short as possible.\n\nQuestion: {}",
    "plain": "Question: {}\nAnswer:",
}
TWO_TURNS = "two_turns"
CONDITIONS = [
    *(Condition("c2c", Channel(codec), "matched") for codec in ("bf16", "kivi4", "kivi2")),
    Condition("c2c", Channel("bf16"), "deranged"),
    Condition("receiver"),
]
SEED = 42


@dataclass(frozen=True)
class OneTurn(type(xquad.TASK)):  # type: ignore[misc]  # the task's class is its file's own
    """XQuAD, passage and question in one turn of the user."""

    wording: str = ""

    def prompts(self, example: Example, tokenizer: Any) -> Prompts:
        before = PASSAGE.format(example.evidence)
        asked = self.wording.format(example.question)
        turn = chat_text(tokenizer, [{"role": "user", "content": before + asked}])
        cut = turn.rindex(asked)
        parts = (tokenizer(each, add_special_tokens=False) for each in (turn[:cut], turn[cut:]))
        return Prompts(*(tuple(part["input_ids"]) for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a model, or its name on the hub")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--blanks", type=int, help="only so many of the blanks; 0: none")
    parser.add_argument("--wordings", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    device, dtype = ("cuda", "bfloat16") if cuda else ("cpu", "float32")
    pair = PairInUse(load_pair(SELF + options.model), device, dtype, False).in_memory
    found: dict[str, dict[str, float]] = {}
    assert xquad.TASK.development
    for name in options.wordings or [TWO_TURNS, *WORDINGS]:
        told = {}
        if options.blanks != 0:
            source = xquad.TASK.development
            blanks = asked(pair, source, options.data_dir, name, options.blanks)
            told["blanks"] = f1_by_condition(pair, blanks, CONDITIONS[:1])[CONDITIONS[0].label]
        questions = asked(pair, xquad.TASK.test, options.data_dir, name)
        told |= f1_by_condition(pair, questions, CONDITIONS)
        found[name] = told
        print(name, json.dumps(told), flush=True)
    whole = {"model": Path(options.model).name, "device": device, "dtype": dtype, "f1": found}
    if options.output:
        options.output.write_text(json.dumps(whole, indent=1) + "\n")


def asked(
    pair: LoadedPair, source: Source, data_dir: Path, name: str, limit: int | None = None
) -> list[Question]:
    """The questions of a source under a wording."""
    plain = xquad.TASK
    task = plain if name == TWO_TURNS else OneTurn(**vars(plain), wording=WORDINGS[name])
    rows, _ = source.read(data_dir)
    examples = (task.example(row, index) for index, (_, row) in enumerate(rows[:limit]))
    return tokenize(task, [each for each in examples if each], pair.tokenizer)


def f1_by_condition(
    pair: LoadedPair, questions: list[Question], conditions: list[Condition]
) -> dict[str, float]:
    """F1 in percent by the condition's label."""
    records = engine.evaluate(pair, conditions, questions, derange(questions, SEED))
    return {
        condition.label: round(100 * sum(r.value for r in kept) / len(kept), 2)
        for condition, kept in records.items()
    }


if __name__ == "__main__":
    main()
