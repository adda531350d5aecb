"""Codecs that work where the cache is, on whole batches: all of fixed rate.

Tensor by tensor, schedules, by token, `turbo`: their packets' bytes are made and read on the
cache's device, and cross to the host in one copy. `kvtc` and `klt`, which are entropy-coded, are
`batch_codec`s. All others work on the CPU, example by example, `CacheCodec` alone: `planes` is
ordered by what its numbers are worth, and a lossless stage compresses what its inner codec has
made.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.on_device import on_host as arriving
from latentwire.channel.codec import CodecError, not_finite
from latentwire.channel.layout import Layout, tensor_of


class DeviceCodec(ABC):
    """A `CacheCodec` that codes batches of one layout, caches [B, H, T, D]."""

    @abstractmethod
    def payloads(self, cache: KVCache, layout: Layout) -> Tensor:
        """The payload of each example, uint8 [B, payload_bytes], on the cache's device; CodecError
        for numbers that cannot be sent."""

    @abstractmethod
    def caches(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> KVCache:
        """The caches of payloads uint8 [B, payload_bytes], on their device in `dtype`; CodecError
        where one stands for none, or for numbers that `dtype` does not hold."""

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        return on_host(self.payloads(cache, layout))[0].tobytes()

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        return self.caches(on_device([data], torch.device("cpu")), layout, torch.float32)


def on_host(data: Tensor) -> np.ndarray:
    """Bytes (uint8) of a device, in one copy."""
    return arriving(data)().numpy()


def on_device(rows: Sequence[memoryview], device: torch.device) -> Tensor:
    """Rows of one length, uint8 [rows, length], in one copy."""
    shape = len(rows), len(rows[0])
    host = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for row, data in zip(host.numpy(), rows, strict=True):
        row[:] = np.frombuffer(data, np.uint8) if len(data) else 0
    return host.to(device, non_blocking=True)


def cast(cache: KVCache, layout: Layout, dtype: torch.dtype, device: torch.device) -> KVCache:
    """What arrived, in `dtype` on a device, in one go; CodecError where `dtype` does not hold a
    number of it."""
    sent = [tensor_of(cache, *site) for site in layout.sent]
    batch = len(cache.keys[0])
    whole = torch.cat([x.flatten() for x in sent]) if sent else torch.empty(0)
    whole = whole.to(device).to(dtype)
    if sent and bool(not_finite(whole)):
        raise too_large(dtype)
    parts = whole.split([x.numel() for x in sent]) if sent else ()
    shaped = (part.view(x.shape) for part, x in zip(parts, sent, strict=True))
    return layout.cache(dict(zip(layout.sent, shaped, strict=True)), unsent(layout, batch, whole))


def too_large(dtype: torch.dtype) -> CodecError:
    name = str(dtype).removeprefix("torch.")
    return CodecError(f"the packet holds numbers too large for {name}")


def unsent(layout: Layout, batch: int, like: Tensor) -> Tensor:
    """[B, H, T, D] of a layout in the dtype and on the device of `like`; takes no memory."""
    heads, head_dim = layout.geometry.kv_heads, layout.geometry.head_dim
    return like.new_empty(()).expand(batch, heads, layout.tokens, head_dim)
