"""Own + weight * branch, put where it belongs: the end of a fusion of many tokens."""

import torch
from torch import Tensor

from c2c.triton_support import SHORT, kernels_run, power_of_two


def add_change(
    slots: Tensor,
    own: Tensor,
    weight: Tensor,
    branch: Tensor,
    row: Tensor,
    example: Tensor,
    position: Tensor,
) -> None:
    """For each of M tokens: slots[row, :, position] = own[example, :, position] + weight * branch.

    `slots` [R, H, S, D] and `own` [B, H, T, D] are caches, `weight` [M, H] and `branch` [M, H, D] a
    projector's, the rest int64 [M]; no place of `slots` is named twice. Sums are taken in float32
    and rounded once, as the projector does it.
    """
    if supported(slots, own, weight, branch):
        from c2c.scatter_fused_kernel import add

        _, heads, width = branch.shape
        with torch.cuda.device_of(slots):  # Triton launches on the current device
            add[(len(branch),)](
                own, weight, branch, slots, example, position, row,
                *own.stride()[:3], *slots.stride()[:3], *branch.stride()[:2], weight.stride(0),
                HEADS=heads, HEAD_ROOM=power_of_two(heads), D=width, D_ROOM=power_of_two(width),
            )  # fmt: skip
        return
    change = weight.float().unsqueeze(-1) * branch.float()
    before = own[example, :, position]
    slots[row, :, position] = (before.float() + change).to(before.dtype)


def supported(slots: Tensor, own: Tensor, weight: Tensor, branch: Tensor) -> bool:
    """Whether the kernel does it for such tensors."""
    tensors = slots, own, weight, branch
    return (
        len(branch) > 0
        and all(x.dtype in SHORT for x in tensors)
        and slots.dtype == own.dtype
        and all(x.stride(-1) == 1 for x in tensors)
        and kernels_run(slots)
    )
