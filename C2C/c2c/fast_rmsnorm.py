"""Root-mean-square norms in one kernel each, for the time of a grid.

transformers computes them step by step in float32, half a dozen kernels that each read and write
everything; models have dozens of norms. PyTorch has the formula with its weight as one operation,
which rounds once and moved twice as many answers (docs/findings.md). Here the quotient is rounded
too, where transformers rounds it: on a GPU in 16 bits by a kernel, elsewhere in two operations.
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from c2c.exchanged_forward import exchanged
from c2c.triton_support import SHORT, kernels_run, power_of_two

NUMBERS = 2048  # a program
WIDEST = 16_384
_PROBE_ROWS = 4
_TOLERANCE = 1e-5


def fast_norms(*models: nn.Module) -> AbstractContextManager[int]:
    """Within, the models' norms that are plain ones are computed by `norm`; their number.

    A module is taken for one when its class is called a root-mean-square norm and it gives what
    the formula gives on random numbers: some models add 1 to the weight, and are left alone.
    """
    return exchanged(models, _is_plain, lambda m: partial(norm, m.weight, m.variance_epsilon))


def norm(weight: Tensor, eps: float, x: Tensor) -> Tensor:
    """weight [D] * x / rms(x) over the last dimension of x [..., D] (RMSNorm, arXiv:1910.07467);
    the quotient is rounded to `x`'s dtype, and so is the product."""
    if not supported(weight, x):
        return weight * F.rms_norm(x, weight.shape, eps=eps)
    from c2c.fast_rmsnorm_kernel import rms_norm

    width, out = len(weight), torch.empty_like(x)
    count, room = x.numel() // width, power_of_two(width)
    rows = max(1, NUMBERS // room)
    with torch.cuda.device_of(x):  # Triton launches on the current device
        rms_norm[(-(-count // rows),)](
            x, weight, out, count, eps, D=width, D_ROOM=room, ROWS=rows,
            enable_fp_fusion=False,  # or a product would be rounded with the sum that it goes into
        )  # fmt: skip
    return out


def supported(weight: Tensor, x: Tensor) -> bool:
    """Whether the kernel, which has no gradient, does it for such tensors."""
    return (
        x.dtype in SHORT
        and x.dtype == weight.dtype
        and x.is_contiguous()
        and weight.is_contiguous()
        and x.numel() > 0
        and len(weight) <= WIDEST
        and not (x.requires_grad or weight.requires_grad)
        and kernels_run(x)
    )


def _is_plain(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", None)
    named = type(module).__name__.endswith("RMSNorm")
    if not named or eps is None or not isinstance(weight, torch.Tensor) or weight.dim() != 1:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS, len(weight), generator=generator).to(weight.device)
    own = module(x).float()
    ours = norm(weight.float(), eps, x)
    return bool((own - ours).abs().max() <= _TOLERANCE * ours.abs().max().clamp_min(1))
