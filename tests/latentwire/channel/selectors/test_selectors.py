"""What every selector promises, and what `front` and `back` choose."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from chosen import positions_of
from hypothesis import given, settings
from hypothesis import strategies as st

from c2c.cache import KVCache
from c2c.sections import sections, split
from c2c.triton_support import interpreted
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.attention import attended, looks, moments, weights
from latentwire.channel.selectors.ranked import ByScore, Ranked
from latentwire.channel.selectors.registry import SELECTORS, select
from latentwire.channel.selectors.seen import ranks_of, ranks_of_rows
from latentwire.channel.selectors.selector import Budget, Selector
from latentwire.errors import LatentWireError
from latentwire.milestones.m3 import PARAMETERS
from latentwire.spec.condition import Channel

DOCS = Path(__file__).parents[4] / "docs" / "adding_a_selector.md"


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("keep_ratio", [0.0, 0.1, 0.5, 1.0])
def test_every_selector_keeps_to_the_contract(name: str, keep_ratio: float) -> None:
    for tokens in (1, 2, 14, 60):
        cache = make_cache(tokens - 1)
        before = [tensor.clone() for tensor in (*cache.keys, *cache.values, *cache.queries)]
        budget, prompt = Budget(keep_ratio), list(range(100, 100 + tokens))
        chosen = SELECTORS[name].select(cache, prompt, budget)
        assert chosen == SELECTORS[name].select(cache, prompt, budget)
        assert chosen.fault(tokens, cache.layers) == ""
        counts = [len(chosen.tokens(layer)) for layer in range(cache.layers)]
        most = budget.tokens(tokens)
        assert sum(counts) <= most * cache.layers
        if name != "kvcomm":  # which sends whole layers
            assert counts == [most] * cache.layers
        assert SELECTORS[name].by_layer or not chosen.by_layer
        if SELECTORS[name].of_length:  # whatever the sharer has read
            nothing = KVCache((), ())
            assert chosen == SELECTORS[name].select(nothing, prompt[::-1], budget)
        if keep_ratio in (0, 1):
            assert chosen == Positions.of(range(budget.tokens(tokens)))
        after = (*cache.keys, *cache.values, *cache.queries)
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_selectors_are_named_where_users_look() -> None:
    (order,) = (parameter for parameter in PARAMETERS if parameter.name == "order")
    for name, selector in SELECTORS.items():
        assert order.parse(name) == (name,)
        assert f"{name} ({selector.help})" in order.help
        assert f"| `{name}` |" in DOCS.read_text()


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from(["front", "back"]))
def test_kept_tokens_are_those_that_the_protocol_fuses(
    tokens: int, keep_ratio: float, order: str
) -> None:
    chosen = positions_of(Channel("int8", keep_ratio, order), tokens)
    assert len(chosen.tokens(0)) == int((tokens - 1) * keep_ratio)
    assert sections(chosen.sections, tokens) == split(tokens, keep_ratio, order)
    assert chosen.fault(tokens, 3) == ""


@pytest.mark.parametrize(
    ("tokens", "keep_ratio", "order", "expected"),
    [
        (119, 1.0, "front", range(118)),
        (119, 0.1, "front", range(11)),
        (119, 0.1, "back", range(107, 118)),
        (119, 0.0, "back", range(0)),
        (8, 0.1, "front", range(0)),
        (1, 1.0, "front", range(0)),
    ],
)
def test_known_prompts(tokens: int, keep_ratio: float, order: str, expected: range) -> None:
    chosen = positions_of(Channel("int8", keep_ratio, order), tokens)
    assert chosen == Positions((expected,) if expected else ())


def make_cache(tokens: int, seed: int = 0) -> KVCache:
    """Of 3 layers, 2 KV heads and 6 query heads."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, 2, tokens, 4)] * 6 + [(1, 6, tokens, 4)] * 3
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    return KVCache(*(tuple(tensors[n : n + 3]) for n in (0, 3, 6)))


class Chooses(Selector):
    help = "what a test says"

    def __init__(self, positions: Positions) -> None:
        self.positions = positions

    def select(self, sharer_cache: KVCache, prompt: object, budget: Budget) -> Positions:
        return self.positions


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        (Positions.of([2, 6]), "chose position 6 of a prompt of 7 tokens"),
        (Positions.of([-1, 2]), "positions do not ascend, or start below 0"),
        (Positions((range(3, 5), range(1, 2))), "positions do not ascend"),
        (Positions((range(1, 2), range(2, 3))), "positions do not ascend"),
        (Positions((range(2, 2),)), "positions do not ascend"),
        (Positions.of_layers([[1], [2]], range(6)), "positions for 2 of 3 layers"),
        (Positions.of_layers([[1], [2], [4]], range(4)), "of a layer that lie in no section"),
    ],
)
def test_a_choice_that_no_prompt_has_is_refused(
    positions: Positions, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SELECTORS, "odd", Chooses(positions))
    with pytest.raises(LatentWireError, match=f"the selector odd chose .*{words}|odd {words}"):
        select(Channel("int8", 0.5, "odd"), make_cache(6), range(7))


def test_an_unknown_selector_is_refused() -> None:
    with pytest.raises(LatentWireError, match=r"order must be one of front, .*, not 'ends'"):
        select(Channel("int8", 0.5, "ends"), make_cache(6), range(7))


@given(st.lists(st.integers(0, 40)), st.lists(st.lists(st.integers(0, 40)), min_size=1, max_size=4))
def test_positions_are_what_was_given(tokens: list[int], layers: list[list[int]]) -> None:
    assert Positions.of(tokens).tokens(0) == sorted({*tokens})
    chosen = Positions.of_layers(layers, range(41))
    assert [chosen.tokens(n) for n in range(len(layers))] == [sorted({*each}) for each in layers]
    assert chosen.fault(42, len(layers)) == ""


def test_positions_reach_another_process_without_their_hash() -> None:
    chosen = Positions.of_layers([[1], [2, 3]], range(5))
    assert hash(chosen) == hash(Positions.of_layers([[1], [3, 2]], range(5)))
    assert len(chosen.table) == 2
    other = pickle.loads(pickle.dumps(chosen))
    assert other == chosen and not {"_hash", "_layers"} & vars(other).keys()


def test_layers_that_all_send_the_same_do_not_differ() -> None:
    assert Positions.of_layers([[1, 2], [2, 1]], [1, 2]) == Positions.of([1, 2])
    assert Positions.of_layers([[1], [1]], range(5)).by_layer == ((range(1, 2),),) * 2
    assert Positions.of_layers([[], []], range(5)) == Positions()


def chosen_by(name: str, cache: KVCache, count: int, prompt: list[int] | None = None) -> Positions:
    tokens = cache.tokens
    prompt = prompt or list(range(100, 101 + tokens))
    return SELECTORS[name].select(cache, prompt, Budget((count + 0.5) / tokens))


def best(scores: torch.Tensor, count: int) -> list[int]:
    return sorted(scores.topk(count).indices.tolist())


def layer_norms(tensors: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [x.norm(dim=-1).mean((0, 1)) for x in tensors]


@pytest.mark.parametrize(("name", "sign"), [("vnorm", 1), ("knorm", -1)])
def test_norms_are_ranked_by_layer_or_over_layers_of_equal_weight(name: str, sign: int) -> None:
    cache = make_cache(40)
    loud = (10.0, 1.0, 0.1)  # one layer must not decide for all
    cache = KVCache(
        *(
            tuple(x * much for x, much in zip(part, loud, strict=True))
            for part in (cache.keys, cache.values)
        )
    )
    layers = layer_norms(cache.values if sign > 0 else cache.keys)
    found = chosen_by(f"{name}_by_layer", cache, 7)
    assert [found.tokens(n) for n in range(3)] == [best(sign * x, 7) for x in layers]
    assert found.sections == (range(40),)
    over = sum(sign * x / x.mean() for x in layers)
    assert isinstance(over, torch.Tensor)
    assert chosen_by(name, cache, 7).tokens(0) == best(over, 7)


def attention(cache: KVCache, layer: int) -> torch.Tensor:
    """What the last 32 tokens attend to, [Hq, 32, T], as attention does it."""
    query, key = cache.queries[layer][0], cache.keys[layer][0].repeat_interleave(3, 0)
    logits = query @ key.transpose(1, 2)
    hidden = torch.ones_like(logits).triu(1).bool()
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)[:, -32:]


def test_snapkv_takes_what_the_window_attends_to_and_its_end() -> None:
    cache = make_cache(60)
    found = chosen_by("snapkv_by_layer", cache, 10)
    for layer in range(3):
        mean = attention(cache, layer).mean((0, 1))
        pooled = torch.nn.functional.avg_pool1d(mean[None], 5, stride=1, padding=2)[0]
        rest = best(pooled[:55], 5)
        assert found.tokens(layer) == [*rest, *range(55, 60)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(1, 5), (31, 32, 33), (64, 200, 65, 140)])
def test_all_layers_at_once_attend_as_each_does(
    lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    """On a GPU, or in Triton's interpreter, by one launch."""
    if interpreted() and dtype is torch.bfloat16:
        pytest.skip("the interpreter truncates where it converts to bfloat16")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(sum(lengths))

    def layers(heads: int) -> tuple[torch.Tensor, ...]:
        shape = (2, len(lengths), heads, max(lengths) + 3, 32)
        return torch.randn(shape, generator=generator).to(device, dtype).unbind()

    cache = KVCache(layers(2), layers(2), layers(6))
    tokens = torch.tensor(lengths, device=device)
    alone = [look.mean(weights(look)).mean(1) for look in looks(cache, tokens)]
    found = attended(cache, tokens)
    assert found.dtype == torch.float32 and found.shape == (2, len(lengths), max(lengths) + 3)
    assert torch.allclose(found, torch.stack(alone), rtol=1e-5, atol=1e-8)
    assert torch.allclose(found.sum(-1), torch.ones(()).to(found))  # nothing behind a row's end
    for layer, look in enumerate(looks(cache, tokens)):
        mean, variance = (each[layer] for each in moments(cache, tokens))
        wanted = look.mean(look.logits)
        spread = look.mean((look.logits - wanted.unsqueeze(2)).square())
        for row, length in enumerate(lengths):
            for ours, theirs in ((mean, wanted), (variance, spread)):
                assert torch.allclose(ours[row, :, :length], theirs[row, :, :length], atol=1e-4)


def test_expected_attention_is_that_of_gaussian_queries() -> None:
    """Against the mean of exp(q k) over many queries drawn from a Gaussian of that mean and
    covariance, on tokens that it tells apart."""
    cache = make_cache(60, seed=3)
    found = chosen_by("expected_attention_by_layer", cache, 9)
    for layer in range(3):
        query, key = cache.queries[layer][0, :, -32:], cache.keys[layer][0].repeat_interleave(3, 0)
        centred = query - query.mean(1, keepdim=True)
        covariance = centred.transpose(1, 2) @ centred / 32
        mean = query.mean(1)
        log = torch.einsum("hd,htd->ht", mean, key)
        log = log + torch.einsum("htd,hde,hte->ht", key, covariance, key) / 2
        share = log[:, 4:].softmax(-1)
        norm = cache.values[layer][0].norm(dim=-1)[:, 4:]
        scores = (share.unflatten(0, (2, 3)).mean(1) * norm).mean(0)
        assert found.tokens(layer) == [0, 1, 2, 3, *(4 + n for n in best(scores, 5))]


def test_kvcomm_sends_whole_layers_that_look_at_the_text() -> None:
    cache = make_cache(60)
    found = chosen_by("kvcomm", cache, 20)  # a third: one layer of three
    mass = torch.stack([attention(cache, n)[:, :, 1:28].sum(-1).mean() for n in range(3)])
    layer = torch.arange(3.0)
    prior = torch.exp(-(((layer - 1) / 10) ** 2) / 2)
    scores = [(x - x.min()) / (x.max() - x.min()) for x in (mass, prior)]
    (kept,) = best(0.8 * scores[0] + 0.2 * scores[1], 1)
    assert [len(found.tokens(n)) for n in range(3)] == [60 * (n == kept) for n in range(3)]
    assert chosen_by("kvcomm", cache, 19) == Positions()


def test_of_equal_tokens_the_first_go_and_noise_does_not_choose() -> None:
    cache = make_cache(1).map(lambda x: x.expand(-1, -1, 50, -1).clone())
    noise = make_cache(50, seed=9)
    parts = zip(
        (cache.keys, cache.values, cache.queries),
        (noise.keys, noise.values, noise.queries),
        strict=True,
    )
    noisy = KVCache(
        *(tuple(a * (1 + 1e-6 * b) for a, b in zip(*part, strict=True)) for part in parts)
    )
    for name in ("vnorm", "vnorm_by_layer", "knorm", "knorm_by_layer"):
        assert chosen_by(name, noisy, 9).tokens(1) == list(range(9))


@pytest.mark.parametrize(
    "name", [n for n, each in SELECTORS.items() if isinstance(each, ByScore) and not each.by_layer]
)
@pytest.mark.parametrize("tokens", [1, 2, 9, 90])
def test_what_comes_in_as_more_may_go_is_known_at_once(name: str, tokens: int) -> None:
    """Windows and sinks that always go come in where they would one by one."""
    selector, ranks = (
        SELECTORS[name],
        np.array([[*torch.randperm(tokens).tolist(), tokens, tokens + 1]]),
    )
    assert isinstance(selector, ByScore)
    counts = range(1, tokens + 1)
    asked = selector.chosen([ranks] * tokens, [tokens] * tokens, counts)
    one_by_one = list(dict.fromkeys(token for each in asked for token in each.tokens(0)))
    assert selector.as_more_go(ranks, tokens) == one_by_one


@pytest.mark.parametrize("name", [n for n, each in SELECTORS.items() if isinstance(each, Ranked)])
def test_of_several_messages_is_chosen_what_is_chosen_of_each(name: str) -> None:
    tokens, ratios = (50, 2, 40, 1, 7, 33), (0.5, 0.5, 0.1, 0.9, 1, 0.3)
    caches = [make_cache(n, seed) for seed, n in enumerate(tokens)]
    prompts, budgets = [range(n + 1) for n in tokens], [*map(Budget, ratios)]
    selector = SELECTORS[name]
    assert isinstance(selector, Ranked)
    found = selector.select_each(caches, prompts, budgets)
    assert found == list(map(selector.select, caches, prompts, budgets))


def test_random_depends_on_the_prompt_alone_and_grows() -> None:
    prompt = list(range(41))
    small, large = (chosen_by("random", make_cache(40), n, prompt).tokens(0) for n in (8, 20))
    assert set(small) < set(large)
    assert small == [1, 10, 13, 18, 26, 28, 29, 36]
    other = chosen_by("random", make_cache(40), 8, [*prompt[:-1], 7]).tokens(0)
    assert other != small


def test_places_alone() -> None:
    cache = make_cache(20)
    assert chosen_by("middle", cache, 5).tokens(0) == [7, 8, 9, 10, 11]
    assert chosen_by("sinks_recent", cache, 7).tokens(0) == [0, 1, 2, 3, 17, 18, 19]
    assert chosen_by("sinks_recent", cache, 3).tokens(0) == [0, 1, 2]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(0, 99))
def test_a_batch_is_ranked_as_its_rows_are(lengths: list[int], seed: int) -> None:
    """Whatever stands behind a row's tokens."""
    ranked = [each for each in SELECTORS.values() if isinstance(each, Ranked)]
    caches = [make_cache(n, seed + row) for row, n in enumerate(lengths)]
    longest = max(lengths)

    def padded(kind: str, layer: int) -> torch.Tensor:
        rows = [getattr(cache, kind)[layer] for cache in caches]
        heads, width = rows[0].shape[1], rows[0].shape[3]
        filled = [
            torch.cat([x, torch.full((1, heads, longest - x.shape[2], width), 7.0)], 2)
            for x in rows
        ]
        return torch.cat(filled)

    kinds = ("keys", "values", "queries")
    batch = KVCache(*(tuple(padded(kind, n) for n in range(3)) for kind in kinds))
    together = ranks_of_rows(ranked, batch, lengths)
    for cache, length, found in zip(caches, lengths, together, strict=True):
        for selector in ranked:
            own = ranks_of(selector, cache)
            count = 3 if selector is SELECTORS["kvcomm"] else length
            assert found[selector][:, :count].tolist() == own[:, :count].tolist()
