"""One receiver layer's network: what the sharer's K and V add to the receiver's.

Module names are those of the published checkpoints (arXiv 2510.03215), so a state dictionary
loads strictly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from c2c.cache import Geometry


@dataclass(frozen=True)
class ProjectorSize:
    """Widths of a projector: `hidden_dim` h, `intermediate_dim` m, and `num_layers` (>= 3)."""

    hidden_dim: int = 1024
    intermediate_dim: int = 1024
    num_layers: int = 3
    dropout: float = 0.1


class Block(nn.Module):
    """Feed-forward block: x + w2(GELU(w1(RMSNorm(x)))), no biases."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        inner = F.dropout(F.gelu(self.w1(self.norm(x))), self.dropout, self.training)
        return x + F.dropout(self.w2(inner), self.dropout, self.training)

    def add_to(self, x: Tensor) -> Tensor:
        """At inference, the result of `forward` where `x` [M, width] stood: the product adds to it
        as it is written, and in 16 bits the sum is rounded once."""
        return x.addmm_(F.gelu(self.w1(self.norm(x))), self.w2.weight.T)


class Blocks(nn.Module):
    """`count` feed-forward blocks in a row."""

    def __init__(self, count: int, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, inner, dropout) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def add_to(self, x: Tensor) -> Tensor:
        """See `Block`."""
        for block in self.blocks:
            x = block.add_to(x)  # type: ignore[operator]  # a Block
        return x


class Projector(nn.Module):
    """K and V of one sharer layer -> change of K and V of one receiver layer.

    Keys and values go through networks of their own. For each of the two, per token:
    ``output = own + gate * weight * branch``, with one weight per receiver head. A gate is one
    number for the layer: at inference 1 if its logit is strictly above zero, else 0; in training
    the sigmoid of the logit plus Gumbel noise, divided by a temperature that falls over time.
    """

    gate_temperature: Tensor

    def __init__(self, sharer: Geometry, receiver: Geometry, size: ProjectorSize) -> None:
        super().__init__()
        self.sharer, self.receiver, self.size = sharer, receiver, size
        h, m, drop = size.hidden_dim, size.intermediate_dim, size.dropout
        for kind in ("key", "value"):
            self.add_module(f"{kind}_in", nn.Linear(sharer.width + receiver.width, h))
            self.add_module(f"{kind}_mlp1", Blocks(1, h, m, drop))
            self.add_module(f"{kind}_scalar_mlp2", Blocks(1, h, h, drop))
            self.add_module(f"{kind}_scalar_head", nn.Linear(h, receiver.kv_heads))
            self.add_module(f"{kind}_proj_mlp2", Blocks(size.num_layers - 2, h, m, drop))
            self.add_module(f"{kind}_proj_out", nn.Linear(h, receiver.width))
            self.register_parameter(f"{kind}_gate_logit", nn.Parameter(torch.zeros(())))
        self.register_buffer("gate_temperature", torch.ones(()))

    def is_open(self, kind: str) -> bool:
        """Whether the gate of `kind` ("key" or "value") lets anything through at inference."""
        return bool(self._gate_logit(kind) > 0)

    def forward(self, kind: str, sharer: Tensor, receiver_kv: Tensor) -> Tensor:
        """The receiver's K (or V) after fusion.

        `sharer` is [B, Hs, T, Ds], `receiver_kv` is [B, Ht, T, Dt]; so is the result, in
        `receiver_kv`'s dtype.
        """
        if not self.training and not self.is_open(kind):
            return receiver_kv
        change = self.change(kind, sharer, receiver_kv)
        if self.training:
            change = self._soft_gate(kind, receiver_kv) * change
        # The sum is taken in float32 and rounded once: the released fusers were evaluated so.
        return (receiver_kv.float() + change).to(receiver_kv.dtype)

    def change(self, kind: str, sharer: Tensor, receiver_kv: Tensor) -> Tensor:
        """weight * branch, float32 [B, Ht, T, Dt]: what an open gate adds."""
        read: nn.Linear = getattr(self, f"{kind}_in")
        parts = [_flatten(tensor).to(read.weight.dtype) for tensor in (sharer, receiver_kv)]
        weight, branch = self._branches(kind, read(torch.cat(parts, dim=-1)))
        return (weight.float().unsqueeze(-1) * branch.float()).transpose(1, 2)

    def read_own(self, kind: str, receiver_kv: Tensor) -> Tensor:
        """What `receiver_kv` [B, Ht, T, Dt] adds to the first linear map, its bias included: [B, T,
        h].

        That map acts on sharer and own side by side, so each has weights of its own. The
        receiver's part is the same whatever is sent: one `read_own` serves many
        `parts_of_tokens`.
        """
        weight = self.get_parameter(f"{kind}_in.weight")
        bias = self.get_parameter(f"{kind}_in.bias")
        return F.linear(
            _flatten(receiver_kv).to(weight.dtype), weight[:, self.sharer.width :], bias
        )

    def parts_of_tokens(self, kind: str, sharer: Tensor, own_read: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [M, Ht] and branch [M, Ht, Dt] of M tokens from anywhere: `change` is their
        product in float32.

        `sharer` is [M, Hs * Ds], heads flattened; `own_read` [M, h] are the tokens' rows of
        `read_own`, whose memory is used.
        """
        weight = self.get_parameter(f"{kind}_in.weight")[:, : self.sharer.width]
        read = own_read.addmm_(sharer.to(weight.dtype), weight.T)
        return self._branches(kind, read, Blocks.add_to)

    def _branches(
        self, kind: str, read: Tensor, last: Callable[[Blocks, Tensor], Tensor] = Blocks.__call__
    ) -> tuple[Tensor, Tensor]:
        """What follows the first linear map: [..., h] -> weight [..., Ht], branch [..., Ht, Dt].
        `last` is how blocks are asked whose argument nobody else needs."""
        layer: Callable[[str], Any] = self.get_submodule
        hidden = last(layer(f"{kind}_mlp1"), read)
        weight = layer(f"{kind}_scalar_head")(layer(f"{kind}_scalar_mlp2")(hidden)).sigmoid()
        branch = layer(f"{kind}_proj_out")(last(layer(f"{kind}_proj_mlp2"), hidden))
        return weight, branch.unflatten(-1, (self.receiver.kv_heads, self.receiver.head_dim))

    def _gate_logit(self, kind: str) -> Tensor:
        # Not get_parameter(): where layers are computed together it is a plain tensor.
        logit: Tensor = getattr(self, f"{kind}_gate_logit")
        return logit

    def _soft_gate(self, kind: str, receiver_kv: Tensor) -> Tensor:
        logit = self._gate_logit(kind).float()
        uniform = torch.rand((*receiver_kv.shape[:3], 1), device=receiver_kv.device)
        gumbel = -torch.log(-torch.log(uniform + 1e-20) + 1e-20)
        return torch.sigmoid((logit + gumbel) / self.gate_temperature.float())


def _flatten(x: Tensor) -> Tensor:
    """[B, H, T, D] -> [B, T, H * D], head 0 first."""
    return x.transpose(1, 2).flatten(2)
