"""Choosing tokens within a section, layer by layer: the published selection study.

These rules choose per *receiver* layer and, in the projected modes, look at the receiver's cache:
they say what could be saved if the sender knew it. Only the norms of the sharer's own K and V can
be used by a real sender.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.quantize import round_trip

Layer = tuple[Tensor, Tensor]  # K and V, each [1, H, T, D]
Quantizer = Callable[[Tensor], Tensor]

MODES = ("front", "back", "vnorm_topk", "knorm_topk", "proj_vnorm_topk", "delta_proj_vnorm_topk")


@dataclass(frozen=True)
class TopTokens:
    """Keep the `proportion` of a section's tokens that score highest, at least `min_tokens`."""

    mode: str
    proportion: float
    min_tokens: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise C2CError(f"selection mode {self.mode!r} is not one of {', '.join(MODES)}")

    def count(self, tokens: int) -> int:
        """round(T * proportion), half to even, between min_tokens and T."""
        if self.proportion >= 1:
            return tokens
        return min(tokens, max(self.min_tokens, round(tokens * self.proportion)))


@dataclass(frozen=True)
class RateDistortionGreedy:
    """Give each token int8, int4 or nothing under a byte budget per layer and section."""

    candidates: tuple[str, ...]
    budget_fraction: float
    index_bytes: int
    scale_overhead: bool


def norms(x: Tensor) -> Tensor:
    """One score per token: L2 over channels, mean over heads. [1, H, T, D] -> [T]."""
    return x.float().norm(dim=-1).mean(dim=(0, 1))


def fuse_top_tokens(
    fuser: Fuser, sharer: KVCache, receiver_kv: KVCache, rule: TopTokens, quantizer: Quantizer
) -> tuple[KVCache, dict[int, list[int]]]:
    """Fuse only the tokens that `rule` chooses in each layer (batch of one).

    Returns the fused section and, per receiver layer, the chosen positions from the section's
    start. Scales are taken over the chosen tokens, but over all of them in the delta mode.
    """
    count = rule.count(receiver_kv.tokens)
    chosen: dict[int, list[int]] = {}

    def fuse(layer: int, sent: Layer, mine: Layer) -> Layer:
        whole: Layer | None = None
        if rule.mode == "delta_proj_vnorm_topk":
            whole = fuser.merge_layer(layer, quantizer(sent[0]), quantizer(sent[1]), *mine)
            scores = norms(whole[1] - mine[1])
        elif rule.mode == "proj_vnorm_topk":
            scores = norms(fuser.merge_layer(layer, *sent, *mine)[1])
        elif rule.mode == "vnorm_topk":
            scores = norms(sent[1])
        elif rule.mode == "knorm_topk":
            scores = norms(sent[0])
        else:
            position = torch.arange(receiver_kv.tokens, dtype=torch.float32, device=mine[0].device)
            scores = -position if rule.mode == "front" else position
        positions = scores.topk(count).indices.sort().values
        chosen[layer] = positions.tolist()
        if whole is None:
            return _fuse_at(fuser, layer, sent, mine, positions, quantizer)
        return _put(mine[0], positions, whole[0][:, :, positions]), _put(
            mine[1], positions, whole[1][:, :, positions]
        )

    return _each_layer(fuser, sharer, receiver_kv, fuse), chosen


def fuse_rate_distortion(
    fuser: Fuser, sharer: KVCache, receiver_kv: KVCache, rule: RateDistortionGreedy
) -> tuple[KVCache, dict[int, dict[str, list[int]]]]:
    """Fuse tokens at the precision that the greedy rule gives each (batch of one).

    Scores are those of the delta mode with int8 over the full section. A token costs
    2 * Hs * Ds * bits / 8 + index_bytes, and the first of each precision the scales as well.
    """
    width, heads = fuser.sharer.width, fuser.sharer.kv_heads
    scales_bytes = 2 * heads * 4 if rule.scale_overhead else 0
    budget = rule.budget_fraction * (
        receiver_kv.tokens * (2 * width + rule.index_bytes) + scales_bytes
    )
    chosen: dict[int, dict[str, list[int]]] = {}

    def int8(x: Tensor) -> Tensor:
        return round_trip(x, 8)

    def fuse(layer: int, sent: Layer, mine: Layer) -> Layer:
        whole = fuser.merge_layer(layer, int8(sent[0]), int8(sent[1]), *mine)
        order = norms(whole[1] - mine[1]).argsort(descending=True, stable=True).tolist()
        picked: dict[int, list[int]] = {8: [], 4: []}
        left = budget
        for token in order:
            for bits, tokens in picked.items():
                cost = 2 * width * bits / 8 + rule.index_bytes + (0 if tokens else scales_bytes)
                if f"int{bits}" in rule.candidates and cost <= left:
                    tokens.append(token)
                    left -= cost
                    break
        chosen[layer] = {f"int{bits}": sorted(tokens) for bits, tokens in picked.items()}
        for bits, tokens in picked.items():
            if tokens:
                positions = torch.tensor(sorted(tokens), device=mine[0].device)
                quantizer = partial(round_trip, bits=bits)
                mine = _fuse_at(fuser, layer, sent, mine, positions, quantizer)
        return mine

    return _each_layer(fuser, sharer, receiver_kv, fuse), chosen


def _each_layer(
    fuser: Fuser, sharer: KVCache, receiver_kv: KVCache, fuse: Callable[[int, Layer, Layer], Layer]
) -> KVCache:
    keys, values = list(receiver_kv.keys), list(receiver_kv.values)
    for layer, source in fuser.layer_map.items():
        sent = sharer.keys[source.sharer_layer], sharer.values[source.sharer_layer]
        keys[layer], values[layer] = fuse(
            layer, sent, (receiver_kv.keys[layer], receiver_kv.values[layer])
        )
    return KVCache(tuple(keys), tuple(values))


def _fuse_at(
    fuser: Fuser, layer: int, sent: Layer, mine: Layer, positions: Tensor, quantizer: Quantizer
) -> Layer:
    key, value = (quantizer(x[:, :, positions]) for x in sent)
    own_key, own_value = (x[:, :, positions] for x in mine)
    fused_key, fused_value = fuser.merge_layer(layer, key, value, own_key, own_value)
    return _put(mine[0], positions, fused_key), _put(mine[1], positions, fused_value)


def _put(x: Tensor, positions: Tensor, part: Tensor) -> Tensor:
    return x.index_copy(2, positions, part)
