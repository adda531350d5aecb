"""What every codec can do. One codec family a file; the registry lists them."""

from typing import Protocol

import torch
from torch import Tensor

from latentwire.errors import LatentWireError


class CodecError(LatentWireError, ValueError):
    """Bytes that no encoder of this codec wrote, or what no codec can send; the text says what is
    wrong with it."""


class NumbersRefused(CodecError):
    """Numbers of a cache that cannot be sent, as against a codec that cannot send anything here."""


class Codec(Protocol):
    """Turns the K (or V) of one sharer layer into bytes and back.

    Tensors are one example's: [H, T, D] with T >= 1. `round_trip` is the same loss without the
    bytes, for whole batches [B, H, T, D]: bit-equal to decoding what was encoded. It must not
    change when an example's last token is repeated: so are batches filled up.
    """

    @property
    def name(self) -> str: ...

    @property
    def number(self) -> int:
        """Stands in the packet; never reused."""

    @property
    def bits(self) -> float:
        """Of one code, without scales."""

    def encode(self, x: Tensor) -> bytes:
        """The payload of one tensor [H, T, D], `payload_bytes` long; NumbersRefused for NaN,
        infinity, and what would be infinite at the other end."""

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        """The float32 tensor [H, T, D] that `data` stands for; CodecError if nothing does."""

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        """Length of the payload of a tensor [H, T, D]: codes and scales."""

    def round_trip(self, x: Tensor) -> Tensor:
        """decode(encode(x)) of every example of [B, H, T, D], in x's dtype. Refuses nothing: what
        `encode` refuses holds numbers that are none, or comes back so."""


NOT_FINITE = "the cache holds NaN or infinite numbers, which cannot be sent"


def check_finite(x: Tensor) -> None:
    """Refuse NaN and infinity: no scale describes them."""
    if not bool(torch.isfinite(x).all()):
        raise NumbersRefused(NOT_FINITE)


def check_held(largest: Tensor, codec: str) -> None:
    """Refuse finite numbers that `codec` would bring to the other end as infinite ones, given its
    `largest` magnitudes there."""
    if not bool(torch.isfinite(largest).all()):
        raise NumbersRefused(f"the cache holds numbers too large for {codec}")
