"""Root-mean-square norms in two kernels each, for the time of a grid.

transformers computes them step by step in float32, half a dozen kernels that each read and write
everything; models have dozens of norms. PyTorch has the formula without its weight as one
operation, and the product with the weight is another: rounded where transformers rounds. With the
weight it would be one, which rounds once; it moved twice as many answers (docs/findings.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PROBE_ROWS = 4
_TOLERANCE = 1e-5


@contextmanager
def fast_norms(*models: nn.Module) -> Iterator[int]:
    """Within, the models' norms that are plain ones are computed in two operations; their number.

    A module is taken for one when its class is called a root-mean-square norm and it gives what
    the formula gives on random numbers: some models add 1 to the weight, and are left alone.
    """
    changed: list[Any] = [m for model in models for m in model.modules() if _is_plain(m)]
    for module in changed:
        # An attribute of the instance hides the class's method, and can be taken away again.
        module.__dict__["forward"] = partial(_norm, module.weight, module.variance_epsilon)
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _norm(weight: Tensor, eps: float, x: Tensor) -> Tensor:
    """weight * x / rms(x) over the last dimension; the quotient is rounded to `x`'s dtype."""
    return weight * F.rms_norm(x, weight.shape, eps=eps)


def _is_plain(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", None)
    named = type(module).__name__.endswith("RMSNorm") and not module.__dict__.get("forward")
    if not named or eps is None or not isinstance(weight, torch.Tensor) or weight.dim() != 1:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS, len(weight), generator=generator).to(weight.device)
    own = module(x).float()
    ours = _norm(weight.float(), eps, x)
    return bool((own - ours).abs().max() <= _TOLERANCE * ours.abs().max().clamp_min(1))
