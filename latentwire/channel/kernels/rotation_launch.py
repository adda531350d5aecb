"""Launches of `rotation_kernels`."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from c2c.triton_support import interpreted
from latentwire.channel import block_scales, rotation
from latentwire.channel.kernels.call import Call
from latentwire.channel.kernels.programs import WARPS, grid
from latentwire.channel.kernels.rules import KernelSpec, table

TILE = 8192  # numbers of one program
WIDTH = 16  # channels of a part of a row
OF_3_BITS = 32  # where codes have 3 bits, which then fill words


def quantize(call: Call) -> None:
    from latentwire.channel.kernels import rotation_kernels

    rule, device = call.rule, call.stack.first.device
    parts = _parts(rule, call.head_dim, **call.tuning)
    signs, flips = _signs(call.head_dim, parts["WIDTH"], device)
    rotation_kernels.quantize[grid(call.stack, parts["ROWS"])](
        *call.places, table(rule, device), call.broken, call.third, signs, flips, *call.means,
        *call.sizes, EPS=rule.eps, BOUNDS=rule.boundaries, COARSE_BOUNDS=rule.coarse_boundaries,
        **parts, **call.types,
    )  # fmt: skip


def restore(call: Call) -> None:
    from latentwire.channel.kernels import rotation_kernels

    rule, first = call.rule, call.stack.first
    parts = _parts(rule, call.head_dim, **call.tuning)
    _, flips = _signs(call.head_dim, parts["WIDTH"], first.device)
    # No coordinate is larger than the whole vector, and a rotation keeps that one's length.
    reach = 1.01 * rule.levels[-1] * call.head_dim**0.5
    most = torch.finfo(first.dtype).max
    held = {"EPS": rule.eps, "REACH": reach, "MOST": most}
    held["HELD"] = call.means[0] is None and block_scales.LARGEST * reach <= most
    rotation_kernels.restore[grid(call.stack, parts["ROWS"])](
        *call.places, table(rule, first.device), call.broken, call.third, flips, *call.means,
        call.largest_mean, *call.sizes, **parts, **held, **call.types,
    )  # fmt: skip


def _parts(
    rule: KernelSpec,
    head_dim: int,
    tile: int = TILE,
    warps: int = WARPS,
    width: int = 0,
    **_others: Any,
) -> dict[str, Any]:
    """How a program holds its rows; see `rotation_kernels`. The fine codes of a row fill parts, and
    so do the coarse ones."""
    fine = head_dim // 2 if rule.coarse_bits else head_dim
    usual = OF_3_BITS if 3 in (rule.bits, rule.coarse_bits) else WIDTH
    width = min(width or usual, fine)
    return {
        "ROWS": max(1, tile // head_dim),
        "WIDTH": width,
        "LOG_WIDTH": width.bit_length() - 1,
        "PARTS": head_dim // width,
        "LOG_PARTS": (head_dim // width).bit_length() - 1,
        "FINE": fine // width,
        "BITS": rule.bits,
        "COARSE_BITS": rule.coarse_bits,
        "NORM": head_dim**-0.5,
        "PLAIN": interpreted(),
        "num_warps": warps,
    }


@cache
def _signs(head_dim: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The rotation's signs (float32 [D]); and of each part of `width` channels, as the bits of an
    int32, those at -1."""
    signs = rotation.signs(head_dim, torch.device("cpu"))
    parts = (signs < 0).view(-1, width).tolist()
    bits = [sum(1 << channel for channel, flip in enumerate(part) if flip) for part in parts]
    flips = torch.tensor(bits, dtype=torch.int64).to(torch.int32)  # as its bits
    return signs.to(device), flips.to(device)
