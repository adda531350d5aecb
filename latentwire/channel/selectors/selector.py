"""What a selector can do: it chooses which tokens go. One selector a file; the registry lists them.

A selector is a sender's: it sees what the sharer has and nothing of the receiver's. Scores that
need the receiver's cache are oracles (`channel.oracles`), a type of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from c2c.sections import kept_tokens
from latentwire.channel.positions import Positions

if TYPE_CHECKING:  # it brings torch: a list of names should not take seconds
    from c2c.cache import KVCache


# What goes of messages, by their places: at most so many tokens of each (None: no matter).
Choose: TypeAlias = Callable[[Mapping[int, int | None]], list[Positions]]

WHOLE_TOKENS = (
    "the interface puts what arrived in front of the prompt, so all layers must send the same"
    " tokens; take another order"
)


@dataclass(frozen=True)
class Budget:
    """How much may go."""

    keep_ratio: float  # share of the instruction's tokens, 0 to 1
    most_tokens: int | None = None  # as many as a packet of so many bytes holds; None: no matter

    def tokens(self, prompt_tokens: int) -> int:
        """How many of a prompt's instruction tokens go, rounded down as the protocol does."""
        kept = kept_tokens(prompt_tokens, self.keep_ratio)
        return kept if self.most_tokens is None else min(kept, self.most_tokens)


class Selector(Protocol):
    """A choice of tokens; the same for the same arguments, in every process."""

    by_layer: bool = False  # whether layers may send different tokens
    needs_queries: bool = False  # whether the cache must hold its tokens' queries
    of_length: bool = False  # whether nothing but the prompt's length and the budget matters

    @property
    def help(self) -> str:
        """Which tokens go, in a few words."""

    def select(self, sharer_cache: "KVCache", prompt: Sequence[int], budget: Budget) -> Positions:
        """The positions that go for one question, from 0 to n-2.

        `prompt` holds the n token ids that the sharer read, `sharer_cache` its K and V of all but
        the last: one tensor [1, H, n-1, D] for each of its layers. Both are fitted to the
        question's prompt where another question's cache is sent. Without a budget in bytes, at a
        `keep_ratio` of 1 or 0, a selector is not asked for by name: all or nothing goes. With one
        it is asked several times, for more and for fewer tokens. With `needs_queries` the cache
        holds `queries` too: what the sharer's tokens looked for, [1, Hq, n-1, D] a layer.
        """
