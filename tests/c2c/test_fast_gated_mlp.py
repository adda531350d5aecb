"""The gate of a feed-forward block in one kernel, and only where it is the formula. Kernels run on
a GPU, or in Triton's interpreter (TRITON_INTERPRET=1), there in float16 alone."""

from typing import Any

import pytest
import torch
from tiny import make_model
from torch import Tensor, nn
from torch.nn import functional as F

from c2c.fast_gated_mlp import fast_gates, gated, supported
from c2c.triton_support import kernels_run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float16, torch.bfloat16)[: 2 if DEVICE.type == "cuda" else 1]


def numbers(count: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(3, count, generator=generator)).to(DEVICE, dtype)


@pytest.mark.skipif(
    not kernels_run(torch.empty(1, device=DEVICE)),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 341, 1024, 4864])
def test_the_kernel_rounds_where_pytorch_rounds(dtype: torch.dtype, count: int) -> None:
    gate, up = numbers(count, dtype), numbers(count, dtype, 1)
    assert supported(gate, up)
    wanted = F.silu(gate) * up
    found = gated(gate.clone(), up)
    # An exponential may be an ulp of float32 apart, which seldom moves a rounded number.
    assert (found == wanted).float().mean() > 0.998
    torch.testing.assert_close(found, wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
def test_a_model_computes_the_same_and_is_given_back(kind: str) -> None:
    model = make_model(kind, layers=3)
    ids = torch.arange(24).view(2, 12) % 7
    before = model(ids).logits
    with pytest.raises(KeyError), fast_gates(model) as changed:
        assert changed == 3
        assert torch.equal(model(ids).logits, before)
        raise KeyError
    assert not any("forward" in module.__dict__ for module in model.modules())


class Other(nn.Module):
    """The parts of a gated block, put together in another way."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(6, 6) for _ in range(3))
        self.act_fn = nn.GELU() if not twice else nn.SiLU()
        self.twice = twice

    def forward(self, x: Any) -> Any:
        inner = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(2 * inner if self.twice else inner)


@pytest.mark.parametrize("twice", [False, True])
def test_another_formula_is_left_alone(twice: bool) -> None:
    with fast_gates(Other(twice)) as changed:
        assert changed == 0
    with fast_gates(make_model("gemma3")) as changed:  # its gate is a GELU
        assert changed == 0
