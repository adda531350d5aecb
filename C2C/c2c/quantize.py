"""The protocol's quantizer: symmetric, no zero point, one scale per KV head or per tensor.

    scale = max(max|x| / q, eps)     code = clamp(round_half_even(x / scale), -q, q)
    q = 2^(bits-1) - 1               x' = code * scale

The maximum runs over the tokens and channels of one example's section (axis `head`) or over its
heads as well (axis `layer`). Examples of a batch never share a scale: with a shared one, what is
in the batch would change the answer. Arithmetic is float32.
"""

import torch
from torch import Tensor

EPS = 1e-6
AXES = {"head": (-2, -1), "layer": (-3, -2, -1)}


def largest_code(bits: int) -> int:
    """127 for 8 bits, 7 for 4, 3 for 3, 1 for 2."""
    return 2 ** (bits - 1) - 1


def exact_divide(x: Tensor, number: float) -> Tensor:
    """x / number, rounded once: a GPU multiplies by the reciprocal of a plain number, and rounds
    twice, where it divides by a tensor."""
    return x / x.new_full((), number)


def quantize(x: Tensor, bits: int, axis: str = "head", eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Codes (int8 [B, H, T, D]) and scales (float32 [B, H, 1, 1], or [B, 1, 1, 1] by layer)."""
    x = x.float()
    limit = largest_code(bits)
    scale = exact_divide(x.abs().amax(AXES[axis], keepdim=True), limit).clamp_min(eps)
    return torch.round(x / scale).clamp_(-limit, limit).to(torch.int8), scale


def dequantize(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """codes * scale, computed in float32 and rounded once to `dtype`."""
    return (codes.float() * scale).to(dtype)


def round_trip(x: Tensor, bits: int, axis: str = "head", eps: float = EPS) -> Tensor:
    """What the receiver sees of `x` after quantization; same shape and dtype."""
    return dequantize(*quantize(x, bits, axis, eps), x.dtype)
