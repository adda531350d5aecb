"""`sinks_recent`: the first 4 tokens of the instruction, and the last for all else that may go.

StreamingLLM (arXiv:2309.17453): a model looks at the first tokens whatever they say, and at what it
read last.
"""

from collections.abc import Sequence
from typing import Any

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector

SINKS = 4  # as published


class SinksRecent(Selector):
    help = "the first 4 and the last"
    of_length = True

    def select(self, sharer_cache: Any, prompt: Sequence[int], budget: Budget) -> Positions:
        last, count = len(prompt) - 1, budget.tokens(len(prompt))
        sinks = min(SINKS, count)
        return Positions.of([*range(sinks), *range(last - (count - sinks), last)])


SELECTOR = SinksRecent()
