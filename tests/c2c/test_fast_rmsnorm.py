"""Norms in one operation are what the models compute, and only for as long as asked. The kernel
runs on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1), there in float16 alone."""

import pytest
import torch
from tiny import make_model
from torch import nn

from c2c.fast_rmsnorm import fast_norms, norm, supported
from c2c.triton_support import interpreted, kernels_run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float16, torch.bfloat16)[: 2 if DEVICE.type == "cuda" else 1]


class Shifted(nn.Module):
    """As Gemma has it: the weight counts from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8))
        self.variance_epsilon = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


Shifted.__name__ = "ShiftedRMSNorm"


@pytest.mark.parametrize(("kind", "norms"), [("qwen3", 4), ("qwen2", 2), ("llama", 2)])
def test_a_model_computes_the_same(kind: str, norms: int) -> None:
    model = make_model(kind, layers=3)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    ids = torch.arange(24).view(2, 12) % 7
    before = model(ids).logits
    with fast_norms(model) as changed:
        assert changed == 3 * norms + 1
        within = model(ids).logits
    torch.testing.assert_close(within, before, rtol=1e-5, atol=1e-5)
    assert torch.equal(model(ids).logits, before)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_another_formula_is_left_alone() -> None:
    with fast_norms(Shifted()) as changed:
        assert changed == 0


def test_norms_are_given_back_after_an_error() -> None:
    model = make_model("qwen3")
    with pytest.raises(KeyError), fast_norms(model):
        raise KeyError
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.skipif(interpreted(), reason="two operations are to be seen, not the kernel")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_it_rounds_where_the_model_rounds(dtype: torch.dtype) -> None:
    model = make_model("qwen3").to(dtype)
    norm = model.model.layers[0].input_layernorm
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = torch.randn(1000, len(norm.weight), generator=torch.Generator().manual_seed(1)).to(dtype)
    before = norm(x)
    with fast_norms(norm) as changed:
        assert changed == 1
        assert torch.equal(norm(x), before)
    once = nn.functional.rms_norm(x.float(), norm.weight.shape, norm.weight.float(), 1e-6).to(dtype)
    assert not torch.equal(once, before), "these numbers would not tell"


@pytest.mark.skipif(
    not kernels_run(torch.empty(1, device=DEVICE)),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 896), (37, 128), (5, 1024), (3, 5000), (9, 1)])
def test_the_kernel_rounds_twice_too(dtype: torch.dtype, rows: int, width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    x = (3 * torch.randn(2, rows, width, generator=generator)).to(DEVICE, dtype)
    weight = torch.rand(width, generator=generator).to(DEVICE, dtype) + 0.5
    assert supported(weight, x)
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
    wanted = weight * (wide * scale).to(dtype)
    found = norm(weight, 1e-6, x)
    # A sum in another order may be an ulp of float32 apart, which seldom moves a rounded number.
    assert (found == wanted).float().mean() > 0.998
    torch.testing.assert_close(found, wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
