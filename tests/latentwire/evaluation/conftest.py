"""A tiny pair and questions in token ids of any length."""

import random
from collections.abc import Callable, Iterator

import pytest
import torch
from tiny import VOCABULARY, loaded_pair

from latentwire.data.example import Example
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.pair import LoadedPair
from latentwire.evaluation.question import Question

# Every eighth token ends an answer, so that answers end at different steps.
STOPS = list(range(2, VOCABULARY, 8))
NEW_TOKENS = 7


def stopping(pair: LoadedPair) -> LoadedPair:
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


@pytest.fixture(scope="session")
def pair() -> LoadedPair:
    """In float32; no test changes it."""
    return stopping(loaded_pair())


@pytest.fixture(scope="session")
def precise_pair() -> LoadedPair:
    """In float64. What a batch and a single example differ by is then far below a quantizer's
    step, so that no number falls to the other side of an edge between two codes."""
    return stopping(loaded_pair(torch.float64))


@pytest.fixture
def questions() -> Callable[..., list[Question]]:
    return make_questions


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """At most as many new tokens, to save time; the protocol's 64 are tested elsewhere."""
    for module in (engine, pipeline):
        monkeypatch.setattr(module, "MAX_NEW_TOKENS", NEW_TOKENS)
    yield NEW_TOKENS
