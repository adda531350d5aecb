"""What an interface is: how a message, the sharer's K and V of some tokens, enters the receiver.

It does one of two things. It *merges*: what arrived changes the receiver's own K and V at the same
positions, as C2C's fuser does. Or it *inserts*: the receiver's cache begins with what arrived, and
its own prompt follows.

Evaluation of one example, of batches, and training know no more of an interface than this page.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import Geometry, KVCache
from c2c.receiver import Prefilled, prefill
from c2c.sections import Section

KINDS = ("key", "value")


class Tokens(NamedTuple):
    """M tokens to merge, of any example under any condition: int64 [M] each."""

    example: Tensor  # row of the receiver's own caches
    position: Tensor
    row: Tensor  # of the slots


# Sharer layer and kind ("key", "value") -> what arrived of the M tokens, [M, Hs, Ds].
Sent = Callable[[int, str], Tensor]
# Write what M tokens become to the slots; see `Interface.batched`.
Merge = Callable[[KVCache, KVCache, Sent, Tokens, int], None]


class Interface(ABC):
    """How a message enters the receiver; a pair has one. At inference nothing in it changes.

    A new one says what it reads and has either `merge` or, with `inserts` set, `prepare`; `batched`
    is for speed alone.
    """

    sharer: Geometry  # of the cache that it reads
    inserts = False

    @abstractmethod
    def layers_read(self, kind: str) -> tuple[int, ...]:
        """Sharer layers whose K (`key`) or V (`value`) is read, ascending: no other is sent, and
        what stands in its place is NaN."""

    def describe(self) -> str:
        """What a user should know of these weights, in a few words."""
        return type(self).__name__

    def prepare(self, received: KVCache) -> KVCache | None:
        """What the receiver's cache begins with: tensors [B, Ht, T, Dt] of as many tokens as were
        `received` ([B, Hs, T, Ds]), each made of its own token alone. None where nothing is put in
        front of the prompt."""
        return None

    def merge(self, received: KVCache, own: KVCache) -> KVCache:
        """The receiver's K and V of a section, [B, Ht, T, Dt], after what was `received` of the
        same tokens, [B, Hs, T, Ds]. Each token is merged by itself."""
        return own

    def batched(self) -> Merge:
        """`merge` for many tokens at once, as ``merge(slots, own, sent, tokens, tokens_at_once)``.

        For each of M tokens, ``slots[row, :, position]`` becomes what `merge` makes of
        ``own[example, :, position]`` and what was sent. `slots` [R, Ht, S, Dt] and `own`
        [B, Ht, T, Dt] are caches of the receiver. About `tokens_at_once` tokens are worked on
        together. What costs time but never changes is asked here, once.

        This one is right for any `merge`; one that goes layer by layer needs less memory and time.
        """
        return self._merge_tokens

    def _merge_tokens(
        self, slots: KVCache, own: KVCache, sent: Sent, tokens: Tokens, tokens_at_once: int
    ) -> None:
        count = len(tokens.row)
        for start in range(0, count, tokens_at_once):
            part = slice(start, min(count, start + tokens_at_once))
            example, position, row = (index[part] for index in tokens)
            before = _picked(own, example, position)
            after = self.merge(self._received(sent, part, before), before)
            for name in ("keys", "values"):
                for layer, tensor in zip(getattr(slots, name), getattr(after, name), strict=True):
                    layer[row, :, position] = tensor[0].transpose(0, 1)

    def _received(self, sent: Sent, part: slice, like: KVCache) -> KVCache:
        """Part of what was sent, as one example's cache; NaN where nothing was."""
        shape = (1, self.sharer.kv_heads, part.stop - part.start, self.sharer.head_dim)
        nothing = like.keys[0].new_full(shape, torch.nan)

        def layers(kind: str) -> tuple[Tensor, ...]:
            read = self.layers_read(kind)
            return tuple(
                sent(layer, kind)[part].transpose(0, 1)[None] if layer in read else nothing
                for layer in range(self.sharer.layers)
            )

        return KVCache(layers("key"), layers("value"))

    @torch.inference_mode()
    def prefill(
        self,
        model: PreTrainedModel,
        token_ids: Tensor,
        sections: Sequence[Section],
        received: KVCache,
    ) -> Prefilled:
        """The receiver after the prompt [B, n] and a message: the definition.

        `received` holds what arrived of the tokens in marked sections, in their order.
        """
        taken = 0

        def fuse(section: Section, own: KVCache) -> KVCache:
            nonlocal taken
            start, taken = taken, taken + own.tokens
            return self.merge(received.section(start, taken), own)

        return prefill(model, token_ids, sections, fuse, self.prepare(received))


def _picked(cache: KVCache, example: Tensor, position: Tensor) -> KVCache:
    """M tokens from anywhere, as the cache of one example: tensors [1, H, M, D]."""
    return cache.map(lambda tensor: tensor[example, :, position].transpose(0, 1)[None])
