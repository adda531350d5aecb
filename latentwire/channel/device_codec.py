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
from latentwire.channel.host_rows import Buffer, copy_rows
from latentwire.channel.layout import Layout, tensor_of


class DeviceCodec(ABC):
    """A `CacheCodec` that codes batches of one layout, caches [B, H, T, D]."""

    @abstractmethod
    def write(self, cache: KVCache, layout: Layout, out: Tensor, broken: Tensor) -> None:
        """Write the payload of each example into `out`, uint8 [B, payload_bytes] on the cache's
        device, whose rows may lie apart. Sets `broken` (int32 [1] there) where one may have to be
        refused. Waits for no device."""

    @abstractmethod
    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        """What `write` has to write, made tensor by tensor, on the CPU; CodecError for numbers that
        cannot be sent, which says why."""

    @abstractmethod
    def read(self, data: Tensor, layout: Layout, dtype: torch.dtype, broken: Tensor) -> KVCache:
        """The caches of payloads uint8 [B, payload_bytes], whose rows may lie apart, on their
        device in `dtype`. Sets `broken` (int32 [1] there) where one may stand for none, or for
        numbers that `dtype` does not hold. Waits for no device."""

    @abstractmethod
    def refuse(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        """Raise the CodecError that says what is wrong with payloads that `read` doubts."""

    @abstractmethod
    def payload_bytes(self, layout: Layout) -> int:
        """Length of each example's payload."""

    def payloads(self, cache: KVCache, layout: Layout) -> Tensor:
        """The payload of each example, uint8 [B, payload_bytes], on the cache's device (or on the
        CPU); CodecError for numbers that cannot be sent."""
        like, length = cache.keys[0], self.payload_bytes(layout)
        out = torch.empty(len(like), length, dtype=torch.uint8, device=like.device)
        broken = torch.zeros(1, dtype=torch.int32, device=like.device)
        self.write(cache, layout, out, broken)
        return self.written_alone(cache, layout) if bool(broken) else out

    def caches(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> KVCache:
        """What `read` reads; CodecError where a payload stands for no cache, or for numbers that
        `dtype` does not hold."""
        broken = torch.zeros(1, dtype=torch.int32, device=data.device)
        cache = self.read(data, layout, dtype, broken)
        if bool(broken):
            self.refuse(data, layout, dtype)
        return cache

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        return on_host(self.payloads(cache, layout))[0].tobytes()

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        return self.caches(on_device([data], torch.device("cpu")), layout, torch.float32)


def on_host(data: Tensor) -> np.ndarray:
    """Bytes (uint8) of a device, in one copy."""
    return arriving(data)().numpy()


def on_device(rows: Sequence[Buffer], device: torch.device) -> Tensor:
    """Rows of one length, uint8 [rows, length], on a device. Waits for no device."""
    host = for_device(len(rows) * len(rows[0]), device).view(len(rows), -1)
    copy_rows(rows, host)
    return host.to(device, non_blocking=True)


def for_device(size: int, device: torch.device) -> Tensor:
    """Room for bytes on the host, from which a device takes them without waiting."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")


def cast(cache: KVCache, layout: Layout, dtype: torch.dtype, device: torch.device) -> KVCache:
    """What arrived, in `dtype` on a device, in one go; CodecError where `dtype` does not hold a
    number of it."""
    found, doubt = cast_unchecked(cache, layout, dtype, device)
    if bool(doubt):
        raise too_large(dtype)
    return found


def cast_unchecked(
    cache: KVCache, layout: Layout, dtype: torch.dtype, device: torch.device
) -> tuple[KVCache, Tensor]:
    """The same, and whether `dtype` does not hold a number of it (bool []). Waits for no device."""
    sent = [tensor_of(cache, *site) for site in layout.sent]
    batch = len(cache.keys[0])
    whole = torch.cat([x.flatten() for x in sent]) if sent else torch.empty(0)
    whole = whole.to(device).to(dtype)
    doubt = not_finite(whole) if sent else torch.zeros((), dtype=torch.bool, device=device)
    parts = whole.split([x.numel() for x in sent]) if sent else ()
    shaped = (part.view(x.shape) for part, x in zip(parts, sent, strict=True))
    found = dict(zip(layout.sent, shaped, strict=True))
    return layout.cache(found, unsent(layout, batch, whole)), doubt


def too_large(dtype: torch.dtype) -> CodecError:
    name = str(dtype).removeprefix("torch.")
    return CodecError(f"the packet holds numbers too large for {name}")


def unsent(layout: Layout, batch: int, like: Tensor) -> Tensor:
    """[B, H, T, D] of a layout in the dtype and on the device of `like`; takes no memory."""
    heads, head_dim = layout.geometry.kv_heads, layout.geometry.head_dim
    return like.new_empty(()).expand(batch, heads, layout.tokens, head_dim)
