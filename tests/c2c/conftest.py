"""Tiny models, made once."""

from functools import cache

import pytest
from tiny import ARCHITECTURES, make_model
from transformers import PreTrainedModel

ModelOf = dict[str, PreTrainedModel]


@cache
def _models() -> ModelOf:
    return {name: make_model(name, seed) for seed, name in enumerate(ARCHITECTURES)}


@pytest.fixture(scope="session")
def models() -> ModelOf:
    """Architecture -> model; frozen, and no test changes them."""
    return _models()
