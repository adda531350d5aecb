"""Fitting messages to budgets in bytes: as many tokens go as a packet of that length holds.

A selector is asked for so many tokens, and the packet of what it chooses is measured. (Where bits
are allocated, steps of `allocation` stand in the place of tokens.) What is found fits, and one
token more would not, if the selector may send one more: so the budget is exact, header, indices,
scales and checksum counted, whatever the codec. Packets are not made: their lengths follow from
positions and layout, or, where they depend on the numbers, from the codec's own pass over the whole
batch. A stream that may end anywhere is no search: it ends at the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from c2c.cache import KVCache
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Choose
from latentwire.spec.condition import Channel

Tried = dict[tuple[str, float, int, int], tuple[Positions, int]]
"""Of packets of one codec, by order, keep ratio, a batch's row and how many tokens may go: what is
chosen and how long the packet is. Budgets share what is known."""

INTERPOLATIONS = 4  # after so many steps the middle is taken: lengths can be far from a line


@dataclass
class _Search:
    """Of one message: what is known to fit and what is known not to."""

    most_tokens: int
    budget_bytes: int

    def __post_init__(self) -> None:
        self.fits, self.fits_bytes, self.chosen = 0, 0, Positions()
        self.exceeds, self.exceeds_bytes = self.most_tokens + 1, 0
        self.steps = 0

    @property
    def next(self) -> int:
        """The number of tokens to try; 0 where all is known."""
        if self.exceeds - self.fits <= 1:
            return 0
        if not self.steps:
            return self.most_tokens
        middle = (self.fits + self.exceeds) // 2
        if self.steps > INTERPOLATIONS or self.exceeds_bytes <= self.fits_bytes:
            return middle
        slope = (self.exceeds - self.fits) / (self.exceeds_bytes - self.fits_bytes)
        likely = self.fits + int((self.budget_bytes - self.fits_bytes) * slope)
        return min(max(likely, self.fits + 1), self.exceeds - 1)

    def learn(self, tokens: int, chosen: Positions, length: int) -> None:
        self.steps += 1
        if length <= self.budget_bytes:
            self.fits, self.fits_bytes, self.chosen = tokens, length, chosen
        else:
            self.exceeds, self.exceeds_bytes = tokens, length


def fit(
    endpoint: Endpoint,
    channel: Channel,
    cache: KVCache,
    choose: Choose,
    most_tokens: Sequence[int],
    budgets_bytes: Sequence[int],
    known: Tried | None = None,
) -> list[Positions]:
    """What each message of a batch sends: row b of `cache` (tensors [B, H, T, D]) at most
    budgets_bytes[b] bytes of what `choose` gives for 1 to most_tokens[b] tokens; nothing where not
    even the smallest packet fits. `known` is of the same codec and batch: what stands there is
    neither chosen nor measured again, and what is tried goes there.

    Raises as `Endpoint.packet_lengths` does, and as `choose` does.
    """
    known = {} if known is None else known
    searches = [_Search(*told) for told in zip(most_tokens, budgets_bytes, strict=True)]
    while any(tried := [search.next for search in searches]):
        keys = [
            (channel.order, channel.keep_ratio, row, tokens) for row, tokens in enumerate(tried)
        ]
        new = {row: key[-1] for row, key in enumerate(keys) if key[-1] and key not in known}
        found = dict(zip(new, choose(new) if new else (), strict=True))
        asked = [found.get(row, Positions()) for row in range(len(searches))]
        measured = endpoint.packet_lengths(channel, cache, asked) if new else []
        known |= {keys[row]: (chosen, measured[row]) for row, chosen in found.items()}
        for search, key in zip(searches, keys, strict=True):
            if key in known:  # the others wait
                search.learn(key[-1], *known[key])
    return [search.chosen for search in searches]


def ended(
    endpoint: Endpoint,
    channel: Channel,
    chosen: Sequence[Positions],
    budgets_bytes: Sequence[int],
) -> list[Positions]:
    """What each message sends of `chosen` where its stream ends at its budget; nothing where not
    even what stands before the stream fits. The codec is an `EmbeddedCodec`."""
    least = endpoint.least_bytes(channel, chosen)
    return [
        replace(each, most_bytes=most) if needed and needed <= most else Positions()
        for each, needed, most in zip(chosen, least, budgets_bytes, strict=True)
    ]
