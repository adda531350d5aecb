"""How the kernels' work is cut into programs."""

from typing import Any

import torch
from torch import Tensor

from c2c.triton_support import interpreted, kernels_run, power_of_two
from latentwire.channel.kernels.pointer_stack import Stack

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDTHS = (32, 64, 128, 256)  # head_dim: rows of a power of two, within a warp's threads
TILE = 4096  # numbers of one program
WARPS = 4
SECTION = 16384  # numbers of a head that one program can hold, to read them once


def readable(tensor: Tensor) -> bool:
    """Whether the kernels read tensors like this one [B, H, T, D]."""
    return (
        kernels_run(tensor)
        and tensor.dtype in DTYPES
        and tensor.ndim == 4
        and tensor.shape[-1] in WIDTHS
        and tensor.stride(-1) == 1
        and tensor.numel() > 0
    )


def grid(stack: Stack, rows: int) -> tuple[int]:
    """A program for so many tokens of each head."""
    batch, heads, tokens, _ = stack.first.shape
    return (len(stack.tensors) * batch * heads * -(-tokens // rows),)


def tuned(
    head_dim: int, tile: int = TILE, warps: int = WARPS, steps: bool = True, section: int = SECTION
) -> tuple[int, int, bool]:
    """Rows and warps of a program, and whether it divides by corrections of a reciprocal.

    For measurements: `tile` numbers a program, heads of up to `section` numbers read at once.
    """
    return max(1, tile // head_dim), warps, steps and not interpreted()


def whole_head(
    tokens: int, head_dim: int, warps: int = WARPS, section: int = SECTION, **_others: Any
) -> tuple[int, int] | None:
    """Rows and warps of a program that holds all of a head; None where that is too much."""
    rows = power_of_two(tokens)
    held = rows * head_dim
    return (rows, max(warps, held // 2048)) if held <= section else None


def largest(source: Stack, pointers: Tensor, rows: int, warps: int, scales: str = "head") -> Tensor:
    """Bits of each head's largest magnitude, int32 [N, B, H], or of each layer's, [N, B]: in the
    order of the magnitudes, NaN last."""
    from latentwire.channel.kernels import scale_kernels

    first = source.first
    shape = (len(source.tensors), *first.shape[: 1 if scales == "layer" else 2])
    found = torch.zeros(shape, dtype=torch.int32, device=first.device)
    tiles = 4
    scale_kernels.maxima[grid(source, rows * tiles)](
        pointers, found, *first.shape[:3], *first.stride()[:3], D=first.shape[-1], ROWS=rows,
        TILES=tiles, TYPE=type_of(first.dtype), ALIGNED=source.aligned, SCALES=scales,
        num_warps=warps,
    )  # fmt: skip
    return found


def type_of(dtype: torch.dtype) -> Any:
    """Triton's name of it."""
    import triton.language as tl

    return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}[
        dtype
    ]
