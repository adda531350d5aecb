"""What every codec can do. One codec family a file; the registry lists them."""

from typing import Protocol

import torch
from torch import Tensor


class CodecError(ValueError):
    """Bytes that no encoder of this codec wrote; the text says what is wrong with them."""


class Codec(Protocol):
    """Turns the K (or V) of one sharer layer into bytes and back.

    Tensors are one example's: [H, T, D] with T >= 1. `round_trip` is the same loss without the
    bytes, for whole batches [B, H, T, D]: bit-equal to decoding what was encoded. Repeating an
    example's last token must leave what `round_trip` makes of the others to the bit as it was (a
    largest magnitude over all tokens does that, a mean does not): so rows of a batch are padded.
    """

    name: str
    number: int  # stands in the packet; never reused
    bits: int  # of one code, without scales

    def encode(self, x: Tensor) -> bytes:
        """The payload of one tensor [H, T, D], `payload_bytes` long."""

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        """The float32 tensor [H, T, D] that `data` stands for; CodecError if nothing does."""

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        """Length of the payload of a tensor [H, T, D]: codes and scales."""

    def round_trip(self, x: Tensor) -> Tensor:
        """decode(encode(x)) of every example of [B, H, T, D], in x's dtype."""


def check_finite(x: Tensor) -> None:
    """Refuse NaN and infinity: no scale describes them."""
    if not bool(torch.isfinite(x).all()):
        raise CodecError("the cache holds NaN or infinite numbers, which cannot be sent")
