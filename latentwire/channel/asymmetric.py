"""Asymmetric integers: a zero point and a scale for each channel of a head, or for each token.

    zero = float16(min x)   scale = float16((max x - min x) / q)   q = 2^bits - 1
    code = clamp(round((x - zero) / scale), 0, q)                  x' = code * scale + zero

By `channel`, minimum and maximum run over the section's tokens, so that a channel that is large in
every token costs the others nothing; by `token` they run over the channels of a head. Source:
KIVI (arXiv:2402.02750), which quantizes keys by channel and values by token. Its window of recent
tokens in 16 bits is left out: with 32 to 128 tokens in it, most of a short prompt would be sent
uncompressed.

Payload: float16 scales, then float16 zero points (H * D of each by channel, H * T by token), then
the codes in `bits` bits each, packed as in `payload_parts`.
"""

import torch
from torch import Tensor

from c2c.quantize import exact_divide
from latentwire.channel.block_scales import EPS, LARGEST
from latentwire.channel.codec import Codec, Fault, Shape
from latentwire.channel.payload_parts import NOT_POSITIVE, Codes, Floats, not_positive

AXES = {"channel": -2, "token": -1}  # the dimension of [..., T, D] that shares a scale


class Asymmetric(Codec):
    """Integers of 8, 4, 3 or 2 bits with scale and zero point by `channel` or by `token`."""

    bits: int

    def __init__(self, name: str, number: int, bits: int, axis: str) -> None:
        self.name, self.number, self.bits, self.axis = name, number, bits, axis

    def fields(self, shape: Shape) -> tuple[Floats, Floats, Codes]:
        heads, tokens, head_dim = shape
        kept = (heads, 1, head_dim) if self.axis == "channel" else (heads, tokens, 1)
        return (*(Floats(kept, torch.float16),) * 2, Codes(shape, self.bits))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.float()
        low, high = x.aminmax(dim=AXES[self.axis], keepdim=True)
        limit = 2**self.bits - 1
        # Rounded before they are used: what is subtracted and divided by is what is sent.
        zero = low.clamp(-LARGEST, LARGEST).half() + 0.0  # of two zeros, either may be the smaller
        # Halved first: the range of two large numbers of unlike sign may be no finite float32.
        scale = (exact_divide(high / 2 - low / 2, limit) * 2).clamp(EPS, LARGEST).half()
        codes = torch.round((x - zero.float()) / scale.float()).clamp(0, limit) + 0.0
        return scale, zero, codes

    def dequantize(self, *numbers: Tensor) -> Tensor:
        scale, zero, codes = numbers
        return codes * scale.float() + zero.float()

    def faults(self, *numbers: Tensor) -> list[Fault]:
        scale, zero = numbers[:2]
        return [(not_positive(scale) | ~(zero.abs() < torch.inf), NOT_POSITIVE)]
