"""Codecs whose payloads have lengths of their own, and which code a batch where the cache is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from c2c.cache import KVCache
from latentwire.channel.layout import Layout


class BatchCodec(ABC):
    """A `CacheCodec` that codes batches of one layout, caches [B, H, T, D].

    On the CPU its bytes and numbers are those of `encode` and `decode`. Elsewhere sums may be in
    another order: a number that lies within float64's rounding of where two codes meet may have the
    other code, and what is decoded may differ by float64's rounding before it is made float32. So
    it is with `round_trip`, whose lengths are those of the streams of the device's own codes.
    """

    @abstractmethod
    def encode_batch(self, cache: KVCache, layout: Layout) -> list[bytes]:
        """The payload of each example; CodecError for numbers that cannot be sent."""

    @abstractmethod
    def decode_batch(
        self, payloads: Sequence[memoryview], layout: Layout, device: torch.device
    ) -> KVCache:
        """The float32 caches of payloads, on a device; CodecError where one stands for none."""
