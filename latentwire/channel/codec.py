"""What every codec of one tensor can do. One codec family a file; the registry lists them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentwire.errors import LatentWireError

if TYPE_CHECKING:
    from latentwire.channel.payload_parts import Codes, Floats

Fault = tuple[Tensor, str]  # where (bool, of any shape), and what to say of it behind the name
Shape = tuple[int, int, int]  # [H, T, D]


class CodecError(LatentWireError, ValueError):
    """Bytes that no encoder of this codec wrote, or what no codec can send; the text says what is
    wrong with it."""


class NumbersRefused(CodecError):
    """Numbers of a cache that cannot be sent, as against a codec that cannot send anything here."""


class Codec(ABC):
    """Turns the K (or V) of one sharer layer into bytes and back.

    A payload is its `fields`, one behind the other. A codec says how numbers become those and how
    they become numbers again, for tensors [..., H, T, D] with T >= 1 of any leading dimensions,
    each by itself and to the bit alike wherever they are and whatever is beside them. `round_trip`
    must not change when an example's last token is repeated: so are batches filled up.
    """

    name: str
    number: int  # stands in the packet; never reused
    bits: float  # of one code, without scales
    keeps_flat = True
    """Whether heads of equal numbers come back so: zeros as zeros, others within 5 %. Not where no
    code stands for zero or for the largest number, or where channels are mixed; there, zeros come
    back as no more than four times the smallest scale."""

    @abstractmethod
    def fields(self, shape: Shape) -> Sequence["Floats | Codes"]:
        """What the payload of a tensor [H, T, D] holds, in order."""

    @abstractmethod
    def quantize(self, x: Tensor) -> tuple[Tensor, ...]:
        """The numbers of each field, of tensors [..., H, T, D]. Refuses nothing: what is NaN or
        infinite may come out as anything."""

    @abstractmethod
    def dequantize(self, *numbers: Tensor) -> Tensor:
        """The float32 tensors [..., H, T, D] that fields' numbers, [..., *dims] each, stand for."""

    def largest(self, *numbers: Tensor) -> Tensor | None:
        """Magnitudes of what `quantize` gave that are infinite where a finite number would be at
        the other end; None where no number is."""
        return None

    def faults(self, *numbers: Tensor) -> list[Fault]:
        """What is wrong with numbers that were read: scales that no encoder writes."""
        return []

    def round_trip(self, x: Tensor) -> Tensor:
        """decode(encode(x)) of every example of [..., H, T, D], in x's dtype. Refuses nothing: what
        `encode` refuses holds numbers that are none, or comes back so."""
        return self.dequantize(*self.quantize(x)).to(x.dtype)

    def keeps(self, dtype: torch.dtype) -> bool:
        """Whether every number of that type comes back as it is."""
        return False

    def payload_bytes(self, shape: Shape) -> int:
        """Length of the payload of a tensor [H, T, D]: codes and scales."""
        return sum(field.length for field in self.fields(shape))

    def encode(self, x: Tensor) -> bytes:
        """The payload of one tensor [H, T, D], `payload_bytes` long; NumbersRefused for NaN,
        infinity, and what would be infinite at the other end."""
        check_finite(x)
        numbers = self.quantize(x)
        if (largest := self.largest(*numbers)) is not None:
            check_held(largest, self.name)
        return torch.cat(self._written(numbers, x)).cpu().numpy().tobytes()

    def decode(self, data: memoryview, shape: Shape) -> Tensor:
        """The float32 tensor [H, T, D] that `data` stands for; CodecError if nothing does."""
        whole = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        lengths = [field.length for field in self.fields(shape)]
        numbers, faults = self._read([part.clone() for part in whole.split(lengths)], shape)
        for where, words in faults:
            if bool(where.any()):
                raise CodecError(f"{self.name} {words}")
        x = self.dequantize(*numbers)
        if not bool(torch.isfinite(x).all()):
            raise CodecError(f"{self.name} payload holds NaN or infinite numbers")
        return x

    def encode_all(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Of tensors [..., H, T, D] the bytes of each field, uint8 [..., length] on their device,
        and whether `encode` may refuse one of them (bool []). Waits for no device."""
        numbers = self.quantize(x)
        doubt = not_finite(x)
        if (largest := self.largest(*numbers)) is not None:
            doubt = doubt | not_finite(largest)
        return self._written(numbers, x), doubt

    def decode_all(
        self, parts: Sequence[Tensor], shape: Shape, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """The tensors [..., H, T, D] in `dtype` of the bytes of each field, uint8 [..., length], on
        their device, and whether `decode` may refuse one, or `dtype` not hold it (bool []). Waits
        for no device."""
        numbers, faults = self._read(parts, shape)
        x = self.dequantize(*numbers).to(dtype)  # what is no finite number stays so
        return x, torch.stack([not_finite(x), *(where.any() for where, _ in faults)]).any()

    def _written(self, numbers: Sequence[Tensor], x: Tensor) -> list[Tensor]:
        heads, tokens, head_dim = x.shape[-3:]
        fields = self.fields((heads, tokens, head_dim))
        return [each.write(own, x.shape[:-3]) for each, own in zip(fields, numbers, strict=True)]

    def _read(self, parts: Sequence[Tensor], shape: Shape) -> tuple[list[Tensor], list[Fault]]:
        found = [each.read(part) for each, part in zip(self.fields(shape), parts, strict=True)]
        numbers = [each for each, _ in found]
        of_fields = [fault for _, faults in found for fault in faults]
        return numbers, [*self.faults(*numbers), *of_fields]


NOT_FINITE = "the cache holds NaN or infinite numbers, which cannot be sent"


def not_finite(x: Tensor) -> Tensor:
    """Whether any number of a tensor is NaN or infinite, bool []. Waits for no device."""
    return ~(torch.linalg.vector_norm(x, torch.inf) < torch.inf)  # NaN where one is


def check_finite(x: Tensor) -> None:
    """Refuse NaN and infinity: no scale describes them."""
    if not bool(torch.isfinite(x).all()):
        raise NumbersRefused(NOT_FINITE)


def check_held(largest: Tensor, codec: str) -> None:
    """Refuse finite numbers that `codec` would bring to the other end as infinite ones, given its
    `largest` magnitudes there."""
    if not bool(torch.isfinite(largest).all()):
        raise NumbersRefused(f"the cache holds numbers too large for {codec}")
