"""What an interface is: how a message, the sharer's K and V of some tokens, enters the receiver.

It does one of two things. It *merges*: what arrived changes the receiver's own K and V at the same
positions, as C2C's fuser does. Or it *inserts*: the receiver's cache begins with what arrived, and
its own prompt follows.

Evaluation of one example, of batches, and training know no more of an interface than this page.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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


# Sharer layer and kind ("key", "value") -> what arrived of M of its tokens, [M, Hs, Ds], and which
# tokens they are; the same for keys and values, perhaps others in another layer.
Sent = Callable[[int, str], tuple[Tensor, Tokens]]
# Write what one layer's tokens become to the slots; see `Interface.batched`.
MergeLayer = Callable[[int, KVCache, KVCache, Sent, int], None]


class Interface(ABC):
    """How a message enters the receiver; a pair has one. At inference nothing in it changes.

    A new one says what it reads, and has either `sources` and `merge_layer` or, with `inserts` set,
    `prepare`. What else is here follows from these; `batched` is for speed alone.
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

    @property
    def sources(self) -> Mapping[int, int]:
        """Receiver layer -> the sharer layer that is merged into it; others stay as they are."""
        return {}

    def merge_layer(
        self, layer: int, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One receiver layer's K and V, [B, Ht, T, Dt], after what arrived of the same tokens from
        its source, [B, Hs, T, Ds]. Each token is merged by itself."""
        return own_key, own_value

    def prepare(self, received: KVCache, positions: Tensor) -> KVCache | None:
        """What the receiver's cache begins with: tensors [B, Ht, T, Dt] of as many tokens as were
        `received` ([B, Hs, T, Ds]), each made of its own token alone and at the position that it
        had, of `positions` (int64 [T], or [B, T] where rows differ). None where nothing is put in
        front of the prompt."""
        return None

    def merge(self, received: KVCache, own: KVCache) -> KVCache:
        """The receiver's cache of a section after `received`, of the same tokens, is merged.

        All layers are merged into what the receiver had before: nothing is recomputed in between.
        """
        keys, values = list(own.keys), list(own.values)
        for layer, source in self.sources.items():
            keys[layer], values[layer] = self.merge_layer(
                layer,
                received.keys[source],
                received.values[source],
                own.keys[layer],
                own.values[layer],
            )
        return KVCache(tuple(keys), tuple(values))

    @torch.inference_mode()
    def prefill(
        self,
        model: PreTrainedModel,
        token_ids: Tensor,
        sections: Sequence[Section],
        received: KVCache,
        seen: Tensor | None = None,
    ) -> Prefilled:
        """The receiver after the prompt [B, n] and a message that is merged: the definition.

        `received` holds what arrived of the tokens in marked sections, in their order; `seen` is as
        `receiver.prefill` has it.
        """
        taken = 0

        def fuse(section: Section, own: KVCache) -> KVCache:
            nonlocal taken
            start, taken = taken, taken + own.tokens
            return self.merge(received.section(start, taken), own)

        return prefill(model, token_ids, sections, fuse, seen=seen)

    @torch.inference_mode()
    def prefill_behind(
        self,
        model: PreTrainedModel,
        token_ids: Tensor,
        received: KVCache,
        positions: Tensor,
        sent_of: int,
    ) -> Prefilled:
        """The receiver after a message that is inserted and the prompt [B, n]: the definition.

        `received` are tokens of a text of `sent_of` tokens, at the `positions` (int64 [T]) that
        they had in it; the prompt stands behind the whole text.
        """
        whole = [Section(-1, 0, token_ids.shape[1])]
        front = self.prepare(received, positions)
        return prefill(
            model, token_ids, whole, lambda section, own: own, front, sent_of - received.tokens
        )

    def batched(self) -> MergeLayer:
        """`merge_layer` for many tokens, as ``merge(layer, slots, own, sent, tokens_at_once)``; a
        layer that nothing is merged into stays as it is.

        For each token, ``slots[row, :, position]`` becomes what `merge_layer` makes of
        ``own[example, :, position]`` and what was sent. `slots` [R, Ht, S, Dt] and `own`
        [B, Ht, T, Dt] are caches of the receiver, or both the same one, if a token's row and
        example are too. About `tokens_at_once` tokens are worked on together. What costs time but
        never changes is asked here, once.
        """
        read = {kind: self.layers_read(kind) for kind in KINDS}
        sources = dict(self.sources)

        def merge(
            layer: int, slots: KVCache, own: KVCache, sent: Sent, tokens_at_once: int
        ) -> None:
            source = sources.get(layer)
            arrived = {kind: sent(source, kind) for kind in KINDS if source in read[kind]}
            if arrived:
                self._merge_tokens(layer, slots, own, arrived, tokens_at_once)

        return merge

    def _merge_tokens(
        self,
        layer: int,
        slots: KVCache,
        own: KVCache,
        arrived: Mapping[str, tuple[Tensor, Tokens]],
        tokens_at_once: int,
    ) -> None:
        """By `merge_layer`, with the tokens as those of one example."""
        like, tokens = next(iter(arrived.values()))
        unsent = torch.full_like(like, torch.nan), tokens
        sent = [arrived.get(kind, unsent)[0] for kind in KINDS]
        before, after = ((cache.keys[layer], cache.values[layer]) for cache in (own, slots))
        for start in range(0, len(like), tokens_at_once):
            part = slice(start, start + tokens_at_once)
            example, position, row = (index[part] for index in tokens)
            received = [tensor[part].transpose(0, 1)[None] for tensor in sent]
            mine = [tensor[example, :, position].transpose(0, 1)[None] for tensor in before]
            for slot, merged in zip(after, self.merge_layer(layer, *received, *mine), strict=True):
                slot[row, :, position] = merged[0].transpose(0, 1)
