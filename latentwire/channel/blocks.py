"""Blocks of consecutive channels of one token and head, each with a scale of its own."""

import torch
from torch import Tensor
from torch.nn import functional as F


def split(x: Tensor, size: int) -> Tensor:
    """[..., D] -> [..., ceil(D / size), size] in float32; the last block is filled with zeros,
    which raise no block's largest magnitude."""
    return F.pad(x.float(), (0, -x.shape[-1] % size)).unflatten(-1, (-1, size))


def join(blocks: Tensor, channels: int) -> Tensor:
    """Undo `split`: [..., blocks, size] -> [..., channels]."""
    return blocks.flatten(-2)[..., :channels]


def count(channels: int, size: int) -> int:
    """Blocks of a token and head."""
    return -(-channels // size)


def half_scale(x: Tensor, largest: float, eps: float) -> Tensor:
    """max|x| / largest over the last dimension (kept), as float16 and at least `eps`.

    Rounded to float16 before it is used, so that what was divided by is what is sent. Raises
    nothing for a range that float16 does not hold: it saturates at the largest float16.
    """
    top = torch.finfo(torch.float16).max
    scale = (x.abs().amax(-1, keepdim=True) / largest).clamp(eps, top)
    return scale.half()
