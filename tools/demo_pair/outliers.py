"""Outlier channels for the tiny sharer, without changing anything it computes.

Large language models have a few channels whose keys and values are large and nearly constant.
They set a quantizer's scale, so everything else is left with few codes. Tiny models have none,
and low precision looks free. Here one rotary pair of every key head and one channel of every
value head are kept unused: nothing writes them, nothing reads them. A constant put there later
is a channel of that kind: it changes no attention score and no output, but it is in the cache and
widens its range.

A channel that is zero on the writing and on the reading side gets no gradient on either, so it
stays unused through training by itself.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen2ForCausalLM

from c2c.fuser import Fuser
from c2c.projector import Projector
from c2c.sharer import read
from tools.demo_pair.config import OutlierLadder

KINDS = ("key", "value")


def key_pair(head_dim: int) -> tuple[int, int]:
    """The rotary pair of the lowest frequency, which turns least along a prompt."""
    return head_dim // 2 - 1, head_dim - 1


def value_channel(head_dim: int) -> int:
    """The channel of a value head that is kept unused."""
    return head_dim - 1


@torch.no_grad()
def reserve_channels(sharer: Qwen2ForCausalLM) -> None:
    """Keep the channels unused: call before training."""
    config = sharer.config
    dim = config.hidden_size // config.num_attention_heads
    for layer in sharer.model.layers:
        attention = layer.self_attn
        for channel in key_pair(dim):
            for projection in (attention.q_proj, attention.k_proj):
                projection.weight[channel::dim] = 0
                projection.bias[channel::dim] = 0
        attention.v_proj.weight[value_channel(dim) :: dim] = 0
        attention.v_proj.bias[value_channel(dim) :: dim] = 0
        attention.o_proj.weight[:, value_channel(dim) :: dim] = 0


@torch.no_grad()
def ignore_channels(fuser: Fuser) -> None:
    """Make the fuser's first maps blind to the channels: call before training."""
    heads, dim = fuser.sharer.kv_heads, fuser.sharer.head_dim
    channels = {"key": key_pair(dim), "value": (value_channel(dim),)}
    for module in fuser.projectors:
        assert isinstance(module, Projector)
        for kind in KINDS:
            weight = module.get_parameter(f"{kind}_in.weight")
            for channel in channels[kind]:
                weight[:, channel : heads * dim : dim] = 0


@torch.no_grad()
def set_outliers(sharer: PreTrainedModel, magnitudes: Tensor) -> None:
    """Put constants into the channels. `magnitudes` is [L, 2, H]: layer, key or value, KV head."""
    config = sharer.config
    dim = config.hidden_size // config.num_attention_heads
    for layer, (key, value) in zip(sharer.model.layers, magnitudes, strict=True):
        attention = layer.self_attn
        attention.k_proj.bias[key_pair(dim)[0] :: dim] = key.to(attention.k_proj.bias)
        attention.v_proj.bias[value_channel(dim) :: dim] = value.to(attention.v_proj.bias)


@torch.inference_mode()
def natural_magnitudes(sharer: PreTrainedModel, token_ids: Tensor) -> Tensor:
    """[L, 2, H] the largest |key| and |value| of each KV head, averaged over prompts [N, n]."""
    cache = read(sharer, token_ids)
    layers = [
        torch.stack([tensor.abs().amax((2, 3)).mean(0) for tensor in both])
        for both in zip(cache.keys, cache.values, strict=True)
    ]
    return torch.stack(layers)


def spread(ladder: OutlierLadder, natural: Tensor) -> Tensor:
    """Magnitudes [L, 2, H]: multiples of each head's own largest magnitude `natural` [L, 2, H].

    The multiples run geometrically from `low` to `high`, dealt out in an order drawn from the
    ladder's seed, so that every step down in precision silences a few heads more. They are
    rounded to bfloat16, as stored.
    """
    steps = torch.linspace(0, 1, natural.numel())
    order = torch.randperm(natural.numel(), generator=torch.Generator().manual_seed(ladder.seed))
    multiples = ladder.low * (ladder.high / ladder.low) ** steps[order]
    return (natural.cpu() * multiples.view(natural.shape)).bfloat16().float()
