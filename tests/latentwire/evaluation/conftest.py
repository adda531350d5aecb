"""A tiny pair and questions in token ids of any length."""

from collections.abc import Callable, Iterator

import pytest
import random_questions
import tiny
import torch
from random_questions import NEW_TOKENS, SHORT, make_questions, stopping
from tiny import loaded_pair

from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.tasks.question import Question


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
    """At most as many new tokens to the questions that the test makes, to save time; the
    protocol's 64 are tested elsewhere."""
    for module in (random_questions, tiny):
        monkeypatch.setattr(module, "TASK", SHORT)
    yield NEW_TOKENS
