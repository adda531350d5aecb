"""The rotary embedding in one kernel, for the time of a grid: the same bits, without what eight
kernels write for each other.

A model's module in transformers has a function of its own for it, found by its name; it is
exchanged where it gives the formula on random numbers, and only takes over on a GPU in 16 bits.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from c2c.triton_support import SHORT, kernels_run, power_of_two

NAME = "apply_rotary_pos_emb"
Rotate = Callable[..., tuple[Tensor, Tensor]]


@contextmanager
def fast_rotary(*models: nn.Module) -> Iterator[int]:
    """Within, the models' queries and keys are turned by one kernel; in how many modules."""
    names = {type(module).__module__ for model in models for module in model.modules()}
    found = [sys.modules[name] for name in sorted(names)]
    plain = [(module, getattr(module, NAME)) for module in found if _is_plain(module)]
    for module, usual in plain:
        setattr(module, NAME, _in_place_of(usual))
    try:
        yield len(plain)
    finally:
        for module, usual in plain:
            setattr(module, NAME, usual)


def _in_place_of(usual: Rotate) -> Rotate:
    def rotated(
        query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *others: object, **named: object
    ) -> tuple[Tensor, Tensor]:
        if others or named or not supported(query, key, cos, sin):
            return usual(query, key, cos, sin, *others, **named)
        return rotate(query, key, cos, sin)

    return rotated


def supported(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether the kernel, which has no gradient, does it for such tensors."""
    tensors, width = (query, key, cos, sin), query.shape[-1]
    return (
        query.dtype in SHORT
        and not (query.requires_grad or key.requires_grad)
        and all(x.dtype == query.dtype and x.stride(-1) == 1 for x in tensors)
        and width >= 2
        and width & (width - 1) == 0
        and cos.shape == sin.shape == (query.shape[0], query.shape[2], width)
        and kernels_run(query)
    )


def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Queries [R, Hq, T, D] and keys [R, H, T, D] turned by the angles of their tokens' positions,
    whose cosines and sines are [R, T, D]: x * cos + (-x2, x1) * sin (RoFormer, arXiv:2104.09864),
    rounded after each product and the sum, as transformers does."""
    from c2c.fast_rope_kernel import rotate as kernel

    rows, _, tokens, width = query.shape
    out = torch.empty_like(query), torch.empty_like(key)
    with torch.cuda.device_of(query):  # Triton launches on the current device
        kernel[(rows * tokens,)](
            query, key, cos, sin, *out, tokens,
            *query.stride()[:3], *out[0].stride()[:3], *key.stride()[:3], *out[1].stride()[:3],
            *cos.stride()[:2], *sin.stride()[:2],
            Q_HEADS=query.shape[1], Q_ROOM=power_of_two(query.shape[1]),
            K_HEADS=key.shape[1], K_ROOM=power_of_two(key.shape[1]), HALF=width // 2,
            enable_fp_fusion=False,  # or a product would reach the sum unrounded
        )  # fmt: skip
    return out


def _is_plain(module: ModuleType) -> bool:
    """Whether a module has the function, and it is the formula."""
    function = getattr(module, NAME, None)
    if function is None:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 3, 5, 8, generator=generator)
    query, key, cos, sin = x[0], x[1, :, :2], x[2, :, 0], x[3, :, 0]
    try:
        ours = [y * cos[:, None] + _half_turned(y) * sin[:, None] for y in (query, key)]
        return all(map(torch.equal, function(query, key, cos, sin), ours))
    except (TypeError, RuntimeError):  # it takes something else
        return False


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)
