"""Bits by token: what is lost is least for the bytes, and one class is the selection."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from small_link import GEOMETRY, LINK, make_cache

from c2c.cache import KVCache
from latentwire.channel.allocation import Allocator, _as_more_go, _hull, _steps, allocates
from latentwire.channel.fitting import fit
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS, select_each
from latentwire.channel.selectors.selector import Choose
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

TOKENS = [40, 23, 1, 31]
ALL = "tokens:int8:int4:int3:int2"
ORDERS = ["front", "back", "middle", "sinks_recent", "vnorm", "knorm", "random"]


def batch() -> KVCache:
    """Tokens of very unequal size."""
    sizes = torch.logspace(-1, 1, max(TOKENS))[torch.randperm(max(TOKENS))][:, None]
    return make_cache(max(TOKENS), batch=len(TOKENS)).map(lambda x: x * sizes)


def selecting(
    channel: Channel, cache: KVCache, tokens: Sequence[int], asked: list[int] | None = None
) -> Choose:
    """What a selector chooses of the rows of a cache; which of them is noted in `asked`."""

    def choose(most: Mapping[int, int | None]) -> list[Positions]:
        if asked is not None:
            asked.extend(most)
        caches = [cache.rows(row, row + 1).section(0, tokens[row]) for row in most]
        prompts = [range(tokens[row] + 1) for row in most]
        return select_each(channel, caches, prompts, [*most.values()])

    return choose


def fitted(codec: str, order: str, cache: KVCache, budget: int) -> list[Positions]:
    channel = Channel(codec, 1, order, budget_bytes=budget)
    most, choose = TOKENS, selecting(channel, cache, TOKENS)
    if by_token := allocates(channel):
        choose, most = Allocator(LINK, cache, TOKENS).chooser(channel, by_token, choose)
    return fit(LINK, channel, cache, choose, most, [budget] * len(TOKENS))


@pytest.mark.parametrize("order", ORDERS)
def test_one_class_is_the_selection(order: str) -> None:
    """{drop, int8} sends what int8 sends of the selector's choice: two bytes name the class."""
    torch.manual_seed(0)
    cache = batch()
    for budget in (70, 200, 500, 900, 5000):
        allocated = fitted("tokens:int8", order, cache, budget + 2)
        selected = fitted("int8", order, cache, budget)
        assert [each.sections for each in allocated] == [each.sections for each in selected]


@pytest.mark.parametrize("order", ORDERS)
def test_more_classes_lose_no_more_than_uniform_bits_of_the_same_bytes(order: str) -> None:
    torch.manual_seed(1)
    cache = batch()
    allocator = Allocator(LINK, cache, TOKENS)
    channel = Channel(ALL, 1, order, budget_bytes=1)
    by_token = allocates(channel)
    assert by_token is not None
    errors = allocator._errors_of(by_token.classes)
    weights = allocator._weights_of(order)
    orders = allocator._orders_of(channel, selecting(channel, cache, TOKENS))

    def lost(row: int, positions: Positions, classes: bytes) -> float:
        of_tokens = dict(zip(positions.tokens(0), classes, strict=True))
        worth = weights[row][: TOKENS[row]] if weights else [1.0] * TOKENS[row]
        return sum(
            weight * (errors[of_tokens[token]][row] if token in of_tokens else 1)
            for token, weight in zip(orders[row], worth, strict=True)
        )

    better = 0
    for budget in (400, 600, 900, 1400):
        allocated = fitted(ALL, order, cache, budget)
        for place, name in enumerate(("int8", "int4", "int3", "int2")):
            # Scales of further classes and the classes of tokens take their bytes.
            uniform = fitted(name, order, cache, budget - 120)
            for row, each in enumerate(uniform):
                ours = lost(row, allocated[row], allocated[row].classes)
                theirs = lost(row, each, bytes([place]) * each.count)
                assert ours <= theirs + 1e-6
                better += ours < 0.9 * theirs
    assert better > 5


def test_steps_are_the_best_allocation_of_their_bytes() -> None:
    """Against every allocation of four tokens and three classes."""
    costs, errors, weights = [8.0, 4.0, 2.0], [0.01, 0.2, 0.9], [5.0, 2.0, 1.5, 0.1]
    steps = _steps(weights, _hull(costs, errors))
    cost, error = [*costs, 0.0], [*errors, 1.0]
    every = [
        (sum(cost[to] for to in each), sum(map(lambda w, to: w * error[to], weights, each)))
        for each in itertools.product(range(4), repeat=4)
    ]
    now = dict.fromkeys(range(4), 3)
    for place, to in steps:
        now[place] = to
        spent = sum(cost[to] for to in now.values())
        loss = sum(w * error[now[n]] for n, w in enumerate(weights))
        assert loss <= min(other for size, other in every if size <= spent) + 1e-12
    assert all(to == 0 for to in now.values())
    assert 2 not in {to for _, to in steps}  # 2 bytes that save a tenth are not on the hull


def test_classes_mix_where_tokens_differ_by_more_than_what_a_byte_saves() -> None:
    """From nothing to class 1 a byte saves four times as much as from there to class 0."""
    hull = _hull([8.0, 4.0], [0.0, 0.2])
    assert [slope for slope, _ in hull] == pytest.approx([0.2, 0.05])
    for last, mixed in ((0.3, False), (0.2, True)):
        steps = _steps([1.0, 1.0, last], hull)
        first_upgrade = next(number for number, (_, to) in enumerate(steps) if to == 0)
        assert (first_upgrade < 3) == mixed


@pytest.mark.parametrize("order", ["vnorm", "knorm"])
@pytest.mark.parametrize("ratio", [1, 0.4])
def test_a_selector_that_ranks_is_asked_once(order: str, ratio: float) -> None:
    torch.manual_seed(2)
    cache, channel = batch(), Channel(ALL, ratio, order, budget_bytes=1)
    asked: list[int] = []
    pick = selecting(channel, cache, TOKENS, asked)
    told = {place: 3 * place + 1 for place in range(max(TOKENS))}  # where they stand

    def moved(most: Mapping[int, int | None]) -> list[Positions]:
        return [each.moved(told) for each in pick(most)]

    found = Allocator(LINK, cache, TOKENS)._orders_of(channel, moved)
    assert asked == [*range(len(TOKENS))]
    one_by_one = [_as_more_go(moved, row, most, []) for row, most in enumerate(TOKENS)]
    assert found == one_by_one and len(found[0]) == int(TOKENS[0] * ratio)


def test_a_selector_of_layers_is_refused() -> None:
    channel, cache = Channel(ALL, 1, "vnorm_by_layer", budget_bytes=500), batch()
    by_token = allocates(channel)
    assert by_token is not None and allocates(Channel(ALL)) is None
    with pytest.raises(LatentWireError, match="bits are given to whole tokens"):
        allocator = Allocator(LINK, cache, TOKENS)
        allocator.chooser(channel, by_token, selecting(channel, cache, TOKENS))
    assert "vnorm_by_layer" in SELECTORS and GEOMETRY.layers == 3


def test_of_no_layer_nothing_goes() -> None:
    """Where all gates are closed no token takes a byte."""
    nothing = replace(LINK, key_layers=(), value_layers=())
    channel = Channel(ALL, 1, "back", budget_bytes=700)
    by_token = allocates(channel)
    assert by_token is not None
    choose = selecting(channel, batch(), TOKENS)
    _, counts = Allocator(nothing, batch(), TOKENS).chooser(channel, by_token, choose)
    assert counts == [0] * len(TOKENS)


@pytest.mark.parametrize("order", ["back", "vnorm"])
def test_of_no_token_nothing_goes(order: str) -> None:
    cache = batch().section(0, 0)
    channel = Channel(ALL, 1, order, budget_bytes=700)
    by_token = allocates(channel)
    assert by_token is not None
    none = [0] * len(TOKENS)
    choose = selecting(channel, cache, none)
    choose, counts = Allocator(LINK, cache, none).chooser(channel, by_token, choose)
    assert fit(LINK, channel, cache, choose, counts, [700] * len(TOKENS)) == [Positions()] * 4
