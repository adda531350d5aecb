"""Selectors that rank: by scores of tokens, worked out for a whole batch at once.

What such a selector works out of a cache does not depend on the budget. A `Seen` cache keeps it, so
that to select again with another budget costs no look at a tensor.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector

if TYPE_CHECKING:  # they take seconds to import: a list of names must not
    import numpy as np
    from torch import Tensor

    from c2c.cache import KVCache

# The best first, int64 [R, N]: of tokens, for each layer or for all as one.
Ranks: TypeAlias = "np.ndarray"


class Ranked(Selector):
    """Chooses by ranks."""

    @abstractmethod
    def order(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        """The ranks of each example of a batch, int64 [R, B, N], the best first.

        `cache` is [B, H, T, D], of which row b has tokens[b] tokens (int64 [B]), all of which can
        be sent; what follows is padding, ranked last.
        """

    @abstractmethod
    def chosen(
        self, ranks: Sequence[Ranks], tokens: Sequence[int], counts: Sequence[int]
    ) -> list[Positions]:
        """What goes of each of several messages of so many `tokens`, where `counts` may: more than
        none, and not all."""

    def select(self, sharer_cache: "KVCache", prompt: Sequence[int], budget: Budget) -> Positions:
        return self.select_each([sharer_cache], [prompt], [budget])[0]

    def select_each(
        self,
        sharer_caches: Sequence["KVCache"],
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[Budget],
    ) -> list[Positions]:
        """`select` of several questions, with the same result."""
        from latentwire.channel.selectors.seen import ranks_of

        tokens = [len(prompt) - 1 for prompt in prompts]
        counts = [budget.tokens(n + 1) for budget, n in zip(budgets, tokens, strict=True)]
        # Of all and of none nothing is to be chosen.
        rows = [row for row, count in enumerate(counts) if 0 < count < tokens[row]]
        ranks = [ranks_of(self, sharer_caches[row]) for row in rows]
        of_rows = [[values[row] for row in rows] for values in (tokens, counts)]
        found = dict(zip(rows, self.chosen(ranks, *of_rows) if rows else (), strict=True))
        return [
            found[row] if row in found else Positions.of(range(count))
            for row, count in enumerate(counts)
        ]


class ByScore(Ranked):
    """Takes the tokens that score highest; of equal scores the first ones."""

    scored: str  # which tokens score highest, in a few words

    def __init__(self, by_layer: bool = False) -> None:
        self.by_layer = by_layer

    @property
    def help(self) -> str:
        return self.scored + (", layer by layer" if self.by_layer else "")

    @abstractmethod
    def scores(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        """One score a token, float32 [L, B, T]; arguments as for `order`."""

    def always(self, tokens: int, count: int) -> range:
        """Those of `tokens` tokens that go whatever their score; no more than `count`."""
        return range(0)

    def as_more_go(self, ranks: Ranks, tokens: int) -> list[int]:
        """All of `tokens` tokens, in the order in which they are chosen as more may go: what
        `chosen` takes as its count grows, of a selector that is not by layer."""
        (order,) = ranks
        best, found = iter(order.tolist()), dict[int, None]()
        for count in range(1, tokens + 1):
            found |= dict.fromkeys(self.always(tokens, count))
            while len(found) < count:
                found[next(best)] = None
        return list(found)

    def order(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        from latentwire.channel.selectors.scores import best_first, over_layers

        scores = self.scores(cache, tokens)
        return best_first(scores if self.by_layer else over_layers(scores, tokens), tokens)

    def chosen(
        self, ranks: Sequence[Ranks], tokens: Sequence[int], counts: Sequence[int]
    ) -> list[Positions]:
        from latentwire.channel.layer_runs import LayerRuns

        found = LayerRuns.of_tokens(list(map(self._best, ranks, tokens, counts)))
        if self.by_layer:
            return list(map(Positions.of_runs, found, map(range, tokens)))
        return [Positions(layers[0]) for layers in found]

    def _best(self, ranks: Ranks, tokens: int, count: int) -> "np.ndarray":
        """The tokens that go, int64 [R, count]."""
        import numpy as np

        if not (always := self.always(tokens, count)):
            return ranks[:, :count]
        best = ranks[(ranks < always.start) | (ranks >= always.stop)].reshape(len(ranks), -1)
        first = np.broadcast_to(np.array(always), (len(ranks), len(always)))
        return np.hstack([first, best[:, : count - len(always)]])
