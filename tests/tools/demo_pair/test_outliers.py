"""Outliers are in the cache and nowhere else: neither the models nor the fusion feel them."""

import pytest
import torch

from c2c.cache import geometry
from c2c.fuser import new_fuser
from c2c.projector import ProjectorSize
from c2c.quantize import round_trip
from c2c.sharer import read
from latentwire.errors import LatentWireError
from tools.demo_pair.config import QUICK, ModelSize, OutlierLadder
from tools.demo_pair.outliers import (
    ignore_channels,
    key_pair,
    reserve_channels,
    set_outliers,
    spread,
    value_channel,
)
from tools.demo_pair.receiver import new_receiver
from tools.demo_pair.sharer import new_sharer
from tools.demo_pair.tokenizer import build_tokenizer
from tools.demo_pair.world import QUICK_WORLD, make_world

SIZE = QUICK.sharer
TOKENIZER = build_tokenizer(make_world(QUICK_WORLD, seed=0))
IDS = torch.arange(60).reshape(2, 30)


def test_outliers_change_no_output_but_set_the_scale() -> None:
    torch.manual_seed(0)
    sharer = new_sharer(SIZE, TOKENIZER).eval()
    receiver = new_receiver(QUICK.receiver, TOKENIZER).eval()
    fuser = new_fuser(geometry(sharer.config), geometry(receiver.config), ProjectorSize(16, 16))
    ignore_channels(fuser)
    fuser.requires_grad_(False).eval()
    for projector in fuser.projectors:
        projector.get_parameter("key_gate_logit").fill_(1.0)
        projector.get_parameter("value_gate_logit").fill_(1.0)

    def outputs() -> list[torch.Tensor]:
        cache = read(sharer, IDS)
        fused = fuser(cache, read(receiver, IDS))
        return [sharer(IDS).logits, *fused.keys, *fused.values]

    before = outputs()
    natural = read(sharer, IDS)
    set_outliers(sharer, torch.full((SIZE.layers, 2, SIZE.kv_heads), 40.0))
    after, cache = outputs(), read(sharer, IDS)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5)
    for key, value in zip(cache.keys, cache.values, strict=True):
        assert key[..., key_pair(SIZE.head_dim)[0]].min() > 39.9
        assert bool((value[..., value_channel(SIZE.head_dim)] == 40).all())
    # All that the natural cache holds falls below half a code of 4 bits.
    assert natural.values[1].abs().max() < 40 / 7 / 2
    left = round_trip(cache.values[1], 4)[..., : value_channel(SIZE.head_dim)]
    assert not bool(left.any())


def test_reserved_channels_stay_unused_through_training() -> None:
    torch.manual_seed(0)
    sharer = new_sharer(SIZE, TOKENIZER)
    before = sharer.model.layers[0].self_attn.q_proj.weight.detach().clone()
    optimizer = torch.optim.AdamW(sharer.parameters(), lr=1e-2)
    for _ in range(3):
        sharer(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    attention = sharer.model.layers[0].self_attn
    assert not torch.equal(attention.q_proj.weight, before)
    dim = SIZE.head_dim
    for channel in key_pair(dim):
        assert not bool(attention.q_proj.weight[channel::dim].any())
        assert not bool(attention.k_proj.weight[channel::dim].any())
    assert not bool(attention.v_proj.weight[value_channel(dim) :: dim].any())
    assert not bool(attention.o_proj.weight[:, value_channel(dim) :: dim].any())


def test_a_ladder_runs_from_low_to_high_multiples() -> None:
    natural = torch.full((3, 2, 2), 2.0)
    magnitudes = spread(OutlierLadder(1.0, 16.0, seed=5), natural)
    assert magnitudes.shape == natural.shape
    assert float(magnitudes.min()) == 2.0
    assert float(magnitudes.max()) == 32.0
    assert torch.equal(magnitudes, magnitudes.bfloat16().float())
    assert not torch.equal(magnitudes, spread(OutlierLadder(1.0, 16.0, seed=6), natural))


def test_reserving_twice_changes_nothing_more() -> None:
    torch.manual_seed(0)
    sharer = new_sharer(SIZE, TOKENIZER)
    before = {name: tensor.clone() for name, tensor in sharer.state_dict().items()}
    reserve_channels(sharer)
    assert all(torch.equal(before[name], tensor) for name, tensor in sharer.state_dict().items())


def test_a_sharer_with_a_head_dim_of_its_own_is_refused() -> None:
    with pytest.raises(LatentWireError, match="must be the hidden size"):
        new_sharer(ModelSize(32, 48, 2, 4, 2, head_dim=16), TOKENIZER)
