"""Selectors that are not shipped: they show what the seam carries."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from c2c.cache import KVCache
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.channel.selectors.selector import Budget, Selector


class Scattered(Selector):
    """Tokens drawn by a seed and the prompt: many runs."""

    help = "any"

    def select(self, sharer_cache: KVCache, prompt: Sequence[int], budget: Budget) -> Positions:
        drawn = random.Random(str(tuple(prompt))).sample
        return Positions.of(drawn(range(len(prompt) - 1), budget.tokens(len(prompt))))


class LargestValues(Selector):
    """The published `vnorm_topk`: in each layer the tokens with the largest values, all of the
    instruction being one section."""

    help = "those with the largest values, by layer"

    def select(self, sharer_cache: KVCache, prompt: Sequence[int], budget: Budget) -> Positions:
        tokens = len(prompt) - 1
        count = round(tokens * budget.keep_ratio)
        chosen = []
        for value in sharer_cache.values:
            scores = value.float().norm(dim=-1).mean(dim=(0, 1))
            chosen.append(scores.topk(count).indices.tolist())
        return Positions.of_layers(chosen, range(tokens))


class Ragged(Selector):
    """Another number of tokens in each layer, none in some, in sections with gaps."""

    help = "more of the later layers"

    def select(self, sharer_cache: KVCache, prompt: Sequence[int], budget: Budget) -> Positions:
        drawn = random.Random(str(tuple(prompt)))
        section = sorted(drawn.sample(range(len(prompt) - 1), budget.tokens(len(prompt))))
        chosen = [
            drawn.sample(section, min(len(section), layer * len(section) // 2))
            for layer in range(sharer_cache.layers)
        ]
        return Positions.of_layers(chosen, section)


MADE = {"scattered": Scattered(), "largest_values": LargestValues(), "ragged": Ragged()}


@contextmanager
def registered() -> Iterator[None]:
    """Within, they are selectors as all others."""
    with pytest.MonkeyPatch.context() as patch:
        for name, selector in MADE.items():
            patch.setitem(SELECTORS, name, selector)
        yield
