"""What a model would have cached of a text, made of what another one has: the trained form of an
interface that inserts.

One receiver layer's network sees its sharer layer's K and V of a token, keys with the rotary
embedding undone, and gives the receiver's K and V of that token, whose keys are then rotated with
the receiver's own. Numbers are standardized on both sides, since keys of real models have constant
parts of hundreds beside a spread of one: the network learns what varies. It is a linear map, which
`prefix_fit` finds without training, plus a small MLP that starts at zero. So training begins where
attention finds keys of the size and direction that it is used to, and every weight has a gradient.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from c2c import rope
from c2c.cache import Geometry, KVCache
from c2c.fuser import LayerSource, Projectors, last_aligned
from c2c.projector import Blocks, ProjectorSize


class PrefixProjector(nn.Module):
    """K and V of one sharer layer -> K and V of one receiver layer, of each token by itself.

    Means and scales, and the frequencies of both models' rotary embeddings (radians a position),
    are buffers: numbers that are known before training and stay in float32.
    """

    read_mean: Tensor
    read_scale: Tensor
    made_mean: Tensor
    made_scale: Tensor
    sharer_frequencies: Tensor
    receiver_frequencies: Tensor

    def __init__(self, sharer: Geometry, receiver: Geometry, size: ProjectorSize) -> None:
        super().__init__()
        self.sharer, self.receiver, self.size = sharer, receiver, size
        reads, makes, h = 2 * sharer.width, 2 * receiver.width, size.hidden_dim
        self.linear = nn.Linear(reads, makes, bias=False)
        self.mlp_in = nn.Linear(reads, h)
        self.mlp = Blocks(size.num_layers - 2, h, size.intermediate_dim, size.dropout)
        self.mlp_out = nn.Linear(h, makes)
        nn.init.zeros_(self.mlp_out.weight)
        nn.init.zeros_(self.mlp_out.bias)
        for name, width in (("read", reads), ("made", makes)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))
        self.register_buffer("sharer_frequencies", torch.zeros(sharer.head_dim // 2))
        self.register_buffer("receiver_frequencies", torch.zeros(receiver.head_dim // 2))

    def forward(self, read: Tensor) -> Tensor:
        """[..., 2 Hs Ds] -> [..., 2 Ht Dt], K and then V with heads flattened, in at least
        float32."""
        standard = (read - self.read_mean) * self.read_scale
        standard = standard.to(self.linear.weight.dtype)
        made = self.linear(standard) + self.mlp_out(self.mlp(self.mlp_in(standard)))
        return made.to(read.dtype) * self.made_scale + self.made_mean


class ProjectedPrefix(Projectors):
    """Puts what projectors make of the sharer's cache in front of the receiver's prompt."""

    inserts = True

    def projector(self, layer: int) -> PrefixProjector:
        """The projector of a receiver layer."""
        projector = self.projectors[self.layer_map[layer].projector]
        assert isinstance(projector, PrefixProjector)
        return projector

    def layers_read(self, kind: str) -> tuple[int, ...]:
        """Those that a receiver layer is made of, keys and values alike."""
        return tuple(sorted({source.sharer_layer for source in self.layer_map.values()}))

    def describe(self) -> str:
        """How large it is."""
        numbers = sum(parameter.numel() for parameter in self.parameters())
        return f"a projector of {numbers:,} parameters for {len(self.layer_map)} layers"

    def prepare(self, received: KVCache, positions: Tensor) -> KVCache:
        """See `Interface`."""
        keys, values = [], []
        for layer, source in self.layer_map.items():
            projector = self.projector(layer)
            key, value = received.keys[source.sharer_layer], received.values[source.sharer_layer]
            read = flattened(key, value, positions, projector.sharer_frequencies)
            made = projector(read)
            both = as_layer(made, self.receiver, positions, projector.receiver_frequencies)
            keys.append(both[0].to(key.dtype))
            values.append(both[1].to(key.dtype))
        return KVCache(tuple(keys), tuple(values))


def flattened(key: Tensor, value: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """What a projector reads of cached K and V [..., B, H, T, D], of tokens at `positions` (int64
    [T] or [B, T]): [..., B, T, 2 H D], in at least float32."""
    wide = torch.promote_types(key.dtype, torch.float32)
    still = rope.undo(key.to(wide), positions, frequencies)
    return torch.cat([x.transpose(-3, -2).flatten(-2) for x in (still, value.to(wide))], dim=-1)


def as_layer(
    made: Tensor, shape: Geometry, positions: Tensor, frequencies: Tensor
) -> tuple[Tensor, Tensor]:
    """K and V as a model of that shape caches them, [..., B, H, T, D], from what a projector makes
    of tokens at `positions`: the inverse of `flattened`."""
    both = made.unflatten(-1, (2, shape.kv_heads, shape.head_dim)).transpose(-4, -2)
    key, value = both[..., 0, :, :], both[..., 1, :, :]
    return rope.redo(key, positions, frequencies), value


def new_prefix(
    sharer: Geometry,
    receiver: Geometry,
    size: ProjectorSize,
    frequencies: tuple[Tensor, Tensor],
) -> ProjectedPrefix:
    """An untrained prefix with one projector per receiver layer and the `last_aligned` map.
    `frequencies` are the sharer's [Ds/2] and the receiver's [Dt/2], in radians a position."""
    projectors = [PrefixProjector(sharer, receiver, size) for _ in range(receiver.layers)]
    for projector in projectors:
        projector.sharer_frequencies.copy_(frequencies[0])
        projector.receiver_frequencies.copy_(frequencies[1])
    layers = last_aligned(receiver.layers, sharer.layers)
    layer_map: Mapping[int, LayerSource] = {t: LayerSource(s, t) for t, s in layers.items()}
    return ProjectedPrefix(projectors, layer_map, sharer, receiver)
