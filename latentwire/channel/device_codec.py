"""Codecs that work where the cache is, on whole batches: all of fixed rate.

Tensor by tensor, schedules, by token, `turbo`: their packets' bytes are made and read on the
cache's device, and cross to the host in one copy. `kvtc` and `klt`, which are entropy-coded, are
`batch_codec`s. All others work on the CPU, example by example, `CacheCodec` alone: `planes` is
ordered by what its numbers are worth, and a lossless stage compresses what its inner codec has
made.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache

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
    def write(self, cache: KVCache, layout: Layout, out: Tensor) -> Tensor:
        """Write the payload of each example into `out`, uint8 [B, payload_bytes] on the cache's
        device, whose rows may lie apart; whether one may have to be refused (bool []). Waits for no
        device."""

    @abstractmethod
    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        """What `write` has to write, made tensor by tensor, on the CPU; CodecError for numbers that
        cannot be sent, which says why."""

    @abstractmethod
    def read(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> tuple[KVCache, Tensor]:
        """The caches of payloads uint8 [B, payload_bytes], whose rows may lie apart, on their
        device in `dtype`; and whether one may stand for none, or for numbers that `dtype` does not
        hold (bool []). Waits for no device."""

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
        doubt = self.write(cache, layout, out)
        return self.written_alone(cache, layout) if bool(doubt) else out

    def caches(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> KVCache:
        """What `read` reads; CodecError where a payload stands for no cache, or for numbers that
        `dtype` does not hold."""
        cache, doubt = self.read(data, layout, dtype)
        if bool(doubt):
            self.refuse(data, layout, dtype)
        return cache

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        return on_host(self.payloads(cache, layout))[0].tobytes()

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        return self.caches(on_device([data], torch.device("cpu")), layout, torch.float32)


def on_host(data: Tensor) -> np.ndarray:
    """Bytes (uint8) of a device, in one copy."""
    return arriving(data)().numpy()


def on_device(
    rows: Sequence[memoryview | bytes],
    device: torch.device,
    place: int = 0,
    stride: int | None = None,
) -> Tensor:
    """Rows of one length, uint8 [rows, length], on a device; or each at a place of a row of
    `stride` bytes, of which the rest is undefined. Waits for no device."""
    length = len(rows[0])
    host = torch.empty(
        len(rows),
        place + length if stride is None else stride,
        dtype=torch.uint8,
        pin_memory=device.type == "cuda",
    )
    _say_once_that_bytes_are_not_written()
    if length:  # on all cores, and without Python's lock
        sent = [torch.frombuffer(data, dtype=torch.uint8) for data in rows]
        torch._foreach_copy_([*host[:, place : place + length].unbind()], sent)
    return host.to(device, non_blocking=True)


@cache
def _say_once_that_bytes_are_not_written() -> None:
    """Torch warns of `bytes`, which it must not write to, once a process; nothing here writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.frombuffer(b"\0", dtype=torch.uint8)


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
    doubts = [not_finite(whole)] if sent else []
    parts = whole.split([x.numel() for x in sent]) if sent else ()
    shaped = (part.view(x.shape) for part, x in zip(parts, sent, strict=True))
    found = dict(zip(layout.sent, shaped, strict=True))
    return layout.cache(found, unsent(layout, batch, whole)), any_of(doubts, device)


def any_of(doubts: Sequence[Tensor], device: torch.device) -> Tensor:
    """Whether any of these (bool [] each, on a device) is true."""
    if len(doubts) == 1:
        return doubts[0]
    return torch.stack([*doubts]).any() if doubts else torch.zeros((), dtype=torch.bool).to(device)


def too_large(dtype: torch.dtype) -> CodecError:
    name = str(dtype).removeprefix("torch.")
    return CodecError(f"the packet holds numbers too large for {name}")


def unsent(layout: Layout, batch: int, like: Tensor) -> Tensor:
    """[B, H, T, D] of a layout in the dtype and on the device of `like`; takes no memory."""
    heads, head_dim = layout.geometry.kv_heads, layout.geometry.head_dim
    return like.new_empty(()).expand(batch, heads, layout.tokens, head_dim)
