"""`front`: the first tokens of the instruction."""

from collections.abc import Sequence
from typing import Any

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector


class Front(Selector):
    help = "the first"
    of_length = True

    def select(self, sharer_cache: Any, prompt: Sequence[int], budget: Budget) -> Positions:
        return Positions.of(range(budget.tokens(len(prompt))))


SELECTOR = Front()
