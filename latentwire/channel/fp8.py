"""FP8: 8-bit floating point, E4M3 or E5M2, with one scale per KV head over the whole section.

    scale = max(max|x| / largest, eps)    code = fp8(x / scale)    largest = 448 or 57344

Source: OCP 8-bit floating point specification (arXiv:2209.05433); torch's casts round half to even.
Payload: H float32 scales, then one byte a number.
"""

import numpy as np
import torch
from torch import Tensor

from c2c.quantize import EPS, exact_divide
from latentwire.channel.codec import CodecError, check_finite, check_held


class FP8:
    """`fp8_e4m3` (more precision) or `fp8_e5m2` (more range)."""

    bits = 8

    def __init__(self, name: str, number: int, dtype: torch.dtype) -> None:
        self.name, self.number, self.dtype = name, number, dtype
        self.largest = torch.finfo(dtype).max

    def encode(self, x: Tensor) -> bytes:
        check_finite(x)
        codes, scale = self._quantize(x)
        check_held(codes.float() * scale, self.name)
        numbers = codes.contiguous().view(torch.uint8).cpu().numpy()
        return scale.flatten().cpu().numpy().astype("<f4").tobytes() + numbers.tobytes()

    def decode(self, data: memoryview, shape: tuple[int, int, int]) -> Tensor:
        heads = shape[0]
        scale = np.frombuffer(data[: 4 * heads], dtype="<f4").astype(np.float32)
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise CodecError(f"{self.name} payload has a scale that is not a positive number")
        numbers = torch.frombuffer(bytearray(data[4 * heads :]), dtype=torch.uint8)
        codes = numbers.view(self.dtype).view(shape)
        tensor = codes.float() * torch.from_numpy(scale).view(heads, 1, 1)
        if not bool(torch.isfinite(tensor).all()):
            raise CodecError(f"{self.name} payload holds NaN or infinite numbers")
        return tensor

    def payload_bytes(self, shape: tuple[int, int, int]) -> int:
        heads, tokens, head_dim = shape
        return 4 * heads + heads * tokens * head_dim

    def round_trip(self, x: Tensor) -> Tensor:
        codes, scale = self._quantize(x)
        return (codes.float() * scale).to(x.dtype)

    def _quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes in FP8 and float32 scales [..., H, 1, 1]."""
        x = x.float()
        scale = exact_divide(x.abs().amax((-2, -1), keepdim=True), self.largest).clamp_min(EPS)
        # Rounding in the division can leave a number a hair above the largest.
        return (x / scale).clamp(-self.largest, self.largest).to(self.dtype), scale
