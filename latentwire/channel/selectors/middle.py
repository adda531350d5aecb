"""`middle`: the tokens in the middle of the instruction."""

from collections.abc import Sequence
from typing import Any

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector


class Middle(Selector):
    help = "those in the middle"
    of_length = True

    def select(self, sharer_cache: Any, prompt: Sequence[int], budget: Budget) -> Positions:
        count = budget.tokens(len(prompt))
        start = (len(prompt) - 1 - count) // 2
        return Positions.of(range(start, start + count))


SELECTOR = Middle()
