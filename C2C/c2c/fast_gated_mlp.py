"""The gate of a feed-forward block in one kernel, for the time of a grid: silu(gate(x)) * up(x).

Its numbers are the most there are between two products of a model, and PyTorch's two kernels read
and write them five times where three would do.
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from c2c.exchanged_forward import exchanged
from c2c.triton_support import SHORT, kernels_run

PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
BLOCK = 1024  # numbers a program
_PROBE_ROWS = 4


def fast_gates(*models: nn.Module) -> AbstractContextManager[int]:
    """Within, the models' feed-forward blocks of that formula use the kernel where it runs; their
    number. A module is taken for one when it has its parts and gives, to the bit, what the formula
    gives on random numbers."""
    return exchanged(models, _is_gated, lambda module: partial(_forward, module))


def _forward(module: Any, x: Tensor) -> Tensor:
    gate, up = module.gate_proj(x), module.up_proj(x)
    result: Tensor = module.down_proj(gated(gate, up))
    return result


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, of any one shape; the result may stand in `gate`'s memory."""
    if not supported(gate, up):
        return F.silu(gate) * up
    from c2c.fast_gated_mlp_kernel import gate_by

    with torch.cuda.device_of(gate):  # Triton launches on the current device
        gate_by[(-(-gate.numel() // BLOCK),)](gate, up, gate.numel(), BLOCK=BLOCK)
    return gate


def supported(gate: Tensor, up: Tensor) -> bool:
    """Whether the kernel, which has no gradient, does it for such tensors."""
    return (
        gate.dtype in SHORT
        and gate.dtype == up.dtype
        and gate.shape == up.shape
        and gate.numel() > 0
        and gate.is_contiguous()
        and up.is_contiguous()
        and not (gate.requires_grad or up.requires_grad)
        and kernels_run(gate)
    )


def _is_gated(module: Any) -> bool:
    if not all(isinstance(getattr(module, name, None), nn.Module) for name in PARTS):
        return False
    weight = getattr(module.gate_proj, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS, weight.shape[1], generator=generator).to(weight)
    with torch.no_grad():
        formula = module.down_proj(F.silu(module.gate_proj(x)) * module.up_proj(x))
        return torch.equal(module(x), formula)
