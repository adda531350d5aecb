"""What an oracle is: it chooses tokens by what they do to the receiver's cache.

No sender has that. What an oracle gains over a selector is what the receiver's knowledge would buy.
Its packet is a real one, of real bytes; that a sender could have made it is not claimed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Choose
from latentwire.errors import LatentWireError

if TYPE_CHECKING:  # they take seconds to import: a list of names must not
    from torch import Tensor

    from c2c.cache import KVCache
    from c2c.interface import Interface


class Oracle(Protocol):
    """A score of tokens in each of the receiver's layers."""

    after_codec: bool  # whether it looks at what would arrive of the whole cache, not at the cache

    @property
    def help(self) -> str:
        """Which tokens go, in a few words."""

    def score(self, merged: "Tensor", own: "Tensor") -> "Tensor":
        """Of a layer's values [B, Ht, T, Dt] once all is merged, and before: what is scored by its
        norm, of the same shape."""


@dataclass(frozen=True)
class Foreseen:
    """What an oracle sees of a batch, tensors [B, H, T, D] of the same tokens."""

    interface: "Interface"
    sent: "KVCache"  # the sharer's, or what would arrive of it; see `Oracle.after_codec`
    own: "KVCache"  # the receiver's, before anything is merged

    def scores(self, oracle: Oracle) -> "Tensor":
        """Of each sharer layer's tokens, float32 [L, B, T]: the sum over the receiver's layers that
        it is merged into, of the L2 norm over channels, mean over heads."""
        import torch

        from latentwire.channel.selectors.scores import norms

        sent, own = self.sent, self.own
        rows, tokens = len(own.values[0]), own.tokens
        total = torch.zeros(sent.layers, rows, tokens, device=own.values[0].device)
        for layer, source in self.interface.sources.items():
            mine = own.keys[layer], own.values[layer]
            arrived = sent.keys[source], sent.values[source]
            _, merged = self.interface.merge_layer(layer, *arrived, *mine)
            total[source] += norms([oracle.score(merged, mine[1])])[0]
        return total


def chooser(
    oracle: Oracle, seen: Foreseen, prompt_tokens: Sequence[int], keep_ratio: float
) -> Choose:
    """What goes of each example of a batch, whose prompts have so many tokens: in each layer those
    that score highest, of equal scores the first ones; all of the instruction is one section."""
    import torch

    from c2c.on_device import on_device
    from latentwire.channel.layer_runs import LayerRuns
    from latentwire.channel.selectors.scores import best_first

    if seen.interface.inserts:
        raise LatentWireError(MERGES)
    tokens = [n - 1 for n in prompt_tokens]
    if not any(tokens):  # prompts of one token
        return lambda most_tokens: [Positions()] * len(most_tokens)
    scores = seen.scores(oracle)
    counts = on_device(torch.tensor(tokens), scores.device)
    order = best_first(scores, counts).cpu().numpy()

    def choose(most_tokens: Mapping[int, int | None]) -> list[Positions]:
        best = [
            order[:, row, : Budget(keep_ratio, most).tokens(prompt_tokens[row])]
            for row, most in most_tokens.items()
        ]
        instructions = (range(tokens[row]) for row in most_tokens)
        return list(map(Positions.of_runs, LayerRuns.of_tokens(best), instructions))

    return choose


MERGES = (
    "an oracle asks what tokens do to the receiver's own, and this pair's interface puts them in"
    " front of the prompt; take another order"
)
ONE_TOKENIZER = (
    "an oracle compares the two caches token by token, so both models must read the same ids; take"
    " another order"
)
