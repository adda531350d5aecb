import math

import pytest
import torch
from tiny import randomize
from torch import Tensor

from c2c.cache import Geometry
from c2c.projector import Projector, ProjectorSize

SHARER, RECEIVER = Geometry(3, 2, 5), Geometry(4, 3, 4)
SIZE = ProjectorSize(hidden_dim=6, intermediate_dim=10, num_layers=5, dropout=0.0)


def projector(
    key: float = 0.5, value: float = -0.5, dtype: torch.dtype = torch.float32
) -> Projector:
    made = Projector(SHARER, RECEIVER, SIZE)
    randomize(made, seed=4)
    with torch.no_grad():
        made.get_parameter("key_gate_logit").fill_(key)
        made.get_parameter("value_gate_logit").fill_(value)
    return made.requires_grad_(False).eval().to(dtype)


def tensors(dtype: torch.dtype = torch.float32, tokens: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return (
        torch.randn(2, 2, tokens, 5, generator=generator).to(dtype),
        torch.randn(2, 3, tokens, 4, generator=generator).to(dtype),
    )


def by_hand(made: Projector, kind: str, sharer: list[float], own: list[float]) -> list[float]:
    """weight * branch of one token, in double precision, from the text of the vectors' README.

    `sharer` and `own` are the flattened heads, head 0 first.
    """
    state = {name: t.double() for name, t in made.state_dict().items()}

    def block(name: str, x: Tensor) -> Tensor:
        normed = x / (x.square().mean() + 1e-6).sqrt() * state[f"{name}.norm.weight"]
        inner = state[f"{name}.w1.weight"] @ normed
        gelu = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        return x + state[f"{name}.w2.weight"] @ gelu

    joined = torch.tensor([*sharer, *own], dtype=torch.float64)
    hidden = state[f"{kind}_in.weight"] @ joined + state[f"{kind}_in.bias"]
    hidden = block(f"{kind}_mlp1.blocks.0", hidden)
    weight = block(f"{kind}_scalar_mlp2.blocks.0", hidden)
    weight = state[f"{kind}_scalar_head.weight"] @ weight + state[f"{kind}_scalar_head.bias"]
    branch = hidden
    for number in range(SIZE.num_layers - 2):
        branch = block(f"{kind}_proj_mlp2.blocks.{number}", branch)
    branch = state[f"{kind}_proj_out.weight"] @ branch + state[f"{kind}_proj_out.bias"]
    return (weight.sigmoid().repeat_interleave(RECEIVER.head_dim) * branch).tolist()


@pytest.mark.parametrize("kind", ["key", "value"])
def test_the_change_follows_the_published_formula(kind: str) -> None:
    made = projector()
    sharer, own = tensors()
    change = made.change(kind, sharer, own)
    assert change.shape == own.shape
    for row in range(2):
        for token in range(3):
            expected = by_hand(
                made,
                kind,
                sharer[row, :, token].flatten().tolist(),
                own[row, :, token].flatten().tolist(),
            )
            found = change[row, :, token].flatten().tolist()
            assert found == pytest.approx(expected, abs=1e-5)


def test_an_open_gate_adds_the_change_and_a_closed_one_is_the_receiver_itself() -> None:
    made = projector(key=1e-6, value=0.0)  # exactly zero is closed
    sharer, own = tensors()
    assert (made.is_open("key"), made.is_open("value")) == (True, False)
    assert torch.equal(made("key", sharer, own), own + made.change("key", sharer, own))
    assert made("value", sharer, own) is own
    assert made("value", torch.full_like(sharer, torch.nan), own) is own


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_the_sum_is_float32_and_rounded_once(dtype: torch.dtype) -> None:
    made = projector(dtype=dtype)
    sharer, own = tensors(dtype, tokens=40)
    change = made.change("key", sharer, own)
    assert change.dtype == torch.float32

    # weight and branch come from 16-bit layers; their product must keep float32's digits.
    joined = torch.cat([x.transpose(1, 2).flatten(2) for x in (sharer, own)], dim=-1)
    hidden = made.get_submodule("key_mlp1")(made.get_submodule("key_in")(joined))
    scalar = made.get_submodule("key_scalar_head")(made.get_submodule("key_scalar_mlp2")(hidden))
    branch = made.get_submodule("key_proj_out")(made.get_submodule("key_proj_mlp2")(hidden))
    assert branch.dtype == dtype
    weight = scalar.sigmoid().double().repeat_interleave(RECEIVER.head_dim, dim=-1)
    exact = (weight * branch.double()).unflatten(-1, (3, 4)).transpose(1, 2)
    torch.testing.assert_close(change.double(), exact, rtol=1e-7, atol=0)

    fused = made("key", sharer, own)
    assert fused.dtype == dtype
    once = (own.double() + exact).float().to(dtype)
    twice = own + exact.to(dtype)
    assert torch.equal(fused, once)
    assert not torch.equal(once, twice)  # else this test could not tell


def test_a_wider_cache_than_the_projector_keeps_its_dtype() -> None:
    made = projector(dtype=torch.bfloat16)
    sharer, own = tensors()
    assert made("key", sharer, own).dtype == torch.float32


def test_in_training_the_gate_is_soft_noisy_and_hardens() -> None:
    made = projector(key=1.0, value=-1.0).train()
    sharer, own = tensors(tokens=2000)

    def shares(kind: str, heat: float) -> Tensor:
        made.gate_temperature.fill_(heat)
        gate = (made(kind, sharer, own) - own) / made.change(kind, sharer, own)
        return gate.mean(-1)  # one gate per row, head and token

    torch.manual_seed(0)
    soft = shares("key", 1.0)
    assert bool(((soft > -1e-3) & (soft < 1 + 1e-3)).all())
    assert 0.1 < float(soft.std()) < 0.5
    # A Gumbel number is above -logit with probability 1 - exp(-exp(logit)).
    for kind, logit in (("key", 1.0), ("value", -1.0)):
        hard = shares(kind, 1e-3)
        open_share = float((hard > 0.5).float().mean())
        assert open_share == pytest.approx(1 - math.exp(-math.exp(logit)), abs=0.02)
        assert float(((hard > 0.05) & (hard < 0.95)).float().mean()) < 0.02


def test_gradients_reach_every_parameter_in_training() -> None:
    made = projector().train().requires_grad_(True)
    sharer, own = tensors()
    torch.manual_seed(0)
    (made("key", sharer, own).square().sum() + made("value", sharer, own).square().sum()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_dropout_acts_in_training_only() -> None:
    size = ProjectorSize(6, 10, 3, dropout=0.5)
    made = Projector(SHARER, RECEIVER, size)
    randomize(made, seed=1)
    sharer, own = tensors()
    torch.manual_seed(0)
    made.train()
    assert not torch.equal(made.change("key", sharer, own), made.change("key", sharer, own))
    made.eval()
    assert torch.equal(made.change("key", sharer, own), made.change("key", sharer, own))


@pytest.mark.parametrize("kind", ["key", "value"])
def test_the_receivers_part_read_once_gives_the_same_change(kind: str) -> None:
    made = projector(value=0.5)
    sharer, own = tensors()
    expected = made.change(kind, sharer, own)
    example, token = torch.tensor([1, 0, 1, 1]), torch.tensor([2, 0, 0, 2])
    own_read = made.read_own(kind, own)
    weight, branch = made.parts_of_tokens(
        kind, sharer[example, :, token].flatten(1), own_read[example, token]
    )
    ours = weight.unsqueeze(-1) * branch
    torch.testing.assert_close(ours, expected[example, :, token], rtol=1e-5, atol=1e-6)
