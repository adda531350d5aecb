"""What the conformance vectors do not show of token selection (they show the most)."""

from collections.abc import Callable

import pytest
import torch
from tiny import make_fuser, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import KVCache
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.oracle_selection import (
    MODES,
    RateDistortionGreedy,
    TopTokens,
    fuse_rate_distortion,
    fuse_top_tokens,
    norms,
)
from c2c.quantize import round_trip
from c2c.sharer import read

TOKENS = 12


@pytest.fixture
def fused_parts(models: dict[str, PreTrainedModel]) -> tuple[Fuser, KVCache, KVCache]:
    receiver, sharer = models["qwen3"], models["llama"]
    ids = token_ids(1, TOKENS + 1)
    return make_fuser(sharer, receiver, gates="open"), read(sharer, ids), read(receiver, ids)


def unchanged(x: Tensor) -> Tensor:
    return x


def equal(first: KVCache, second: KVCache) -> bool:
    pairs = zip((*first.keys, *first.values), (*second.keys, *second.values), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("tokens", "proportion", "at_least", "count"),
    [
        (10, 0.25, 1, 2),
        (10, 0.35, 1, 4),
        (9, 0.5, 1, 4),
        (10, 0.0, 1, 1),
        (3, 0.1, 5, 3),
        (7, 1, 1, 7),
    ],
)
def test_the_count_is_rounded_half_to_even(
    tokens: int, proportion: float, at_least: int, count: int
) -> None:
    assert TopTokens("front", proportion, at_least).count(tokens) == count


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(C2CError, match="selection mode 'best' is not one of front"):
        TopTokens("best", 0.5)


@pytest.mark.parametrize("mode", MODES)
def test_taking_all_tokens_is_fusing_them(
    mode: str, fused_parts: tuple[Fuser, KVCache, KVCache]
) -> None:
    fuser, sent, own = fused_parts
    result, chosen = fuse_top_tokens(fuser, sent, own, TopTokens(mode, 1.0), unchanged)
    assert chosen == {layer: list(range(TOKENS)) for layer in range(own.layers)}
    for ours, theirs in zip(result.keys, fuser(sent, own).keys, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_best_tokens_change(
    mode: str, fused_parts: tuple[Fuser, KVCache, KVCache]
) -> None:
    fuser, sent, own = fused_parts
    result, chosen = fuse_top_tokens(fuser, sent, own, TopTokens(mode, 0.25), unchanged)
    whole = fuser(sent, own)
    scores: dict[str, Callable[[int, int], Tensor]] = {
        "front": lambda layer, source: -torch.arange(TOKENS),
        "back": lambda layer, source: torch.arange(TOKENS),
        "vnorm_topk": lambda layer, source: norms(sent.values[source]),
        "knorm_topk": lambda layer, source: norms(sent.keys[source]),
        "proj_vnorm_topk": lambda layer, source: norms(whole.values[layer]),
        "delta_proj_vnorm_topk": lambda layer, source: norms(
            whole.values[layer] - own.values[layer]
        ),
    }
    for layer, source in fuser.layer_map.items():
        ranked = scores[mode](layer, source.sharer_layer).tolist()
        best = sorted(sorted(range(TOKENS), key=lambda token: -ranked[token])[:3])
        assert chosen[layer] == best
        changed = (result.values[layer] != own.values[layer]).any(dim=3).any(dim=1)[0]
        assert changed.nonzero().flatten().tolist() == best
        torch.testing.assert_close(
            result.values[layer][:, :, best], whole.values[layer][:, :, best], rtol=0, atol=1e-5
        )


def test_a_score_is_the_mean_over_heads_of_the_length() -> None:
    x = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]], [[0.0, 1.0], [6.0, 8.0]]]])  # [1, 2, 2, 2]
    assert norms(x).tolist() == [3.0, 5.0]


@pytest.mark.parametrize("scale_overhead", [False, True])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_rate_distortion_stays_within_its_budget(
    fraction: float, scale_overhead: bool, fused_parts: tuple[Fuser, KVCache, KVCache]
) -> None:
    fuser, sent, own = fused_parts
    rule = RateDistortionGreedy(("int8", "int4"), fraction, 2, scale_overhead)
    result, chosen = fuse_rate_distortion(fuser, sent, own, rule)
    width, scales = fuser.sharer.width, 2 * fuser.sharer.kv_heads * 4 if scale_overhead else 0
    budget = fraction * (TOKENS * (2 * width + 2) + scales)
    for layer, source in fuser.layer_map.items():
        eight, four = chosen[layer]["int8"], chosen[layer]["int4"]
        assert not set(eight) & set(four)
        spent = len(eight) * (2 * width + 2) + len(four) * (width + 2)
        spent += scales * (bool(eight) + bool(four))
        assert spent <= budget
        # The best ones by `delta` in int8, and one more in int4 where that still fits: no choice of
        # its own, but for that token (docs/decisions.md).
        sent_in_8 = (round_trip(x[source.sharer_layer], 8) for x in (sent.keys, sent.values))
        merged = fuser.merge_layer(layer, *sent_in_8, own.keys[layer], own.values[layer])[1]
        order = norms(merged - own.values[layer]).argsort(descending=True, stable=True).tolist()
        assert eight == sorted(order[: len(eight)])
        assert four in ([], order[len(eight) : len(eight) + 1])
        if fraction == 1.0:
            assert eight == list(range(TOKENS))
        if fraction == 0.0:
            assert not eight and not four
            assert torch.equal(result.keys[layer], own.keys[layer])
        for tokens, bits in ((eight, 8), (four, 4)):
            if tokens:
                key = round_trip(sent.keys[source.sharer_layer][:, :, tokens], bits)
                wanted = fuser.projector(layer)("key", key, own.keys[layer][:, :, tokens])
                ours = result.keys[layer][:, :, tokens]
                torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


def test_selection_does_not_touch_its_input(fused_parts: tuple[Fuser, KVCache, KVCache]) -> None:
    fuser, sent, own = fused_parts
    sent_before, own_before = sent.map(torch.clone), own.map(torch.clone)
    fuse_top_tokens(fuser, sent, own, TopTokens("vnorm_topk", 0.5), unchanged)
    fuse_rate_distortion(fuser, sent, own, RateDistortionGreedy(("int8",), 0.5, 0, False))
    assert equal(sent, sent_before) and equal(own, own_before)
