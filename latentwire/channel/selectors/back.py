"""`back`: the last tokens of the instruction, next to the question's end."""

from collections.abc import Sequence
from typing import Any

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector


class Back(Selector):
    help = "the last"
    of_length = True

    def select(self, sharer_cache: Any, prompt: Sequence[int], budget: Budget) -> Positions:
        last = len(prompt) - 1
        return Positions.of(range(last - budget.tokens(len(prompt)), last))


SELECTOR = Back()
