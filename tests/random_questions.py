"""Questions in token ids of any length, for pairs of which every eighth token ends an answer."""

import random

from tiny import VOCABULARY

from latentwire.data.example import Example
from latentwire.evaluation.pair import LoadedPair
from latentwire.evaluation.question import Question

# Every eighth token ends an answer, so that answers end at different steps.
STOPS = list(range(2, VOCABULARY, 8))
NEW_TOKENS = 7


def stopping(pair: LoadedPair) -> LoadedPair:
    """The pair, its answers ending early and at different steps."""
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = STOPS
    return pair


def make_questions(lengths: list[int], seed: int = 0) -> list[Question]:
    """Questions whose prompts are random tokens, so many each."""
    generator = random.Random(seed)
    return [
        Question(
            Example(f"set:{index}", index, "q", ("a", "b", "c", "d"), "ABCD"[index % 4]),
            tuple(generator.randrange(3, VOCABULARY) for _ in range(length)),
        )
        for index, length in enumerate(lengths)
    ]
