"""How the rotation's kernels are launched; see `launch`, which gives them what all kernels take."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from c2c.triton_support import interpreted
from latentwire.channel import block_scales, rotation
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.programs import WARPS, grid
from latentwire.channel.kernels.room import Room
from latentwire.channel.kernels.rules import KernelSpec

TILE = 8192  # numbers of one program
WIDTH = 16  # channels of a part of a row
OF_3_BITS = 32  # where codes have 3 bits, which then fill words


def quantize(
    rule: KernelSpec,
    source: Stack,
    into: Stack | Room,
    places: Sequence[Any],
    sizes: Sequence[int],
    types: Mapping[str, Any],
    means: Sequence[Any],
    **tuning: Any,
) -> None:
    """Payloads where `into` is a room, else the values that they stand for. `means`: what
    `mean_rows` wants to know of them."""
    from latentwire.channel.kernels import rotation_kernels

    first = source.first
    head_dim = first.shape[-1]
    parts = _parts(rule, head_dim, **tuning)
    signs, flips = _signs(head_dim, parts["WIDTH"], first.device)
    rotation_kernels.quantize[grid(source, parts["ROWS"])](
        *places, _third(into), signs, flips, *means, *sizes, BOUNDS=rule.boundaries,
        COARSE_BOUNDS=rule.coarse_boundaries, **parts, **types,
    )  # fmt: skip


def restore(
    rule: KernelSpec,
    sink: Stack,
    room: Room,
    places: Sequence[Any],
    sizes: Sequence[int],
    types: Mapping[str, Any],
    means: Sequence[Any],
    largest: float,
    **tuning: Any,
) -> None:
    """The values that payloads stand for; `largest` as in `Means`."""
    from latentwire.channel.kernels import rotation_kernels

    first = sink.first
    head_dim = first.shape[-1]
    parts = _parts(rule, head_dim, **tuning)
    _, flips = _signs(head_dim, parts["WIDTH"], first.device)
    # No coordinate is larger than the whole vector, and a rotation keeps that one's length.
    reach = 1.01 * rule.levels[-1] * head_dim**0.5
    most = torch.finfo(first.dtype).max
    held = {"EPS": rule.eps, "REACH": reach, "MOST": most}
    held["HELD"] = means[0] is None and block_scales.LARGEST * reach <= most
    rotation_kernels.restore[grid(sink, parts["ROWS"])](
        *places, _third(room), flips, *means, largest, *sizes, **parts, **held, **types
    )


def _third(room: Stack | Room) -> int:
    """Where the second field of codes begins in a payload that has one."""
    return room.fields[2] if isinstance(room, Room) and len(room.fields) > 2 else 0


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
