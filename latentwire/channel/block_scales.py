"""Blocks of consecutive channels of one token and head, each with a scale of its own."""

import torch
from torch import Tensor
from torch.nn import functional as F

from c2c.quantize import exact_divide
from latentwire.channel.codec import Shape
from latentwire.channel.payload_parts import Floats

EPS = 2.0**-20  # smallest scale; float16 holds it
LARGEST = 65504.0  # largest number of float16


def split(x: Tensor, size: int) -> Tensor:
    """[..., D] -> [..., ceil(D / size), size] in float32; the last block is filled with zeros,
    which raise no block's largest magnitude."""
    short = -x.shape[-1] % size
    return (F.pad(x.float(), (0, short)) if short else x.float()).unflatten(-1, (-1, size))


def join(blocks: Tensor, channels: int) -> Tensor:
    """Undo `split`: [..., blocks, size] -> [..., channels]."""
    return blocks.flatten(-2)[..., :channels]


def half_scale(x: Tensor, largest: float) -> Tensor:
    """max|x| / largest over the last dimension (kept), as float16 and at least EPS.

    Rounded to float16 before it is used, so that what was divided by is what is sent. Raises
    nothing for a range that float16 does not hold: it saturates at the largest float16.
    """
    return exact_divide(x.abs().amax(-1, keepdim=True), largest).clamp(EPS, LARGEST).half()


def field(shape: Shape, size: int) -> Floats:
    """The float16 scales [H, T, blocks, 1] of a tensor [H, T, D], in its payload."""
    heads, tokens, head_dim = shape
    return Floats((heads, tokens, -(-head_dim // size), 1), torch.float16)
