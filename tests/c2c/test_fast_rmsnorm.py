"""Norms in one operation are what the models compute, and only for as long as asked."""

import pytest
import torch
from tiny import make_model
from torch import nn

from c2c.fast_rmsnorm import fast_norms


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
