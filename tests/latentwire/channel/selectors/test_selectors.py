"""What every selector promises, and what `front` and `back` choose."""

from pathlib import Path

import pytest
import torch
from chosen import positions_of
from hypothesis import given
from hypothesis import strategies as st

from c2c.cache import KVCache
from c2c.sections import sections, split
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS, select
from latentwire.channel.selectors.selector import Budget
from latentwire.errors import LatentWireError
from latentwire.milestones.m3 import PARAMETERS
from latentwire.spec.condition import Channel

DOCS = Path(__file__).parents[4] / "docs" / "adding_a_selector.md"


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("keep_ratio", [0.0, 0.1, 0.5, 1.0])
def test_every_selector_keeps_to_the_contract(name: str, keep_ratio: float) -> None:
    for tokens in (1, 2, 14):
        cache = make_cache(tokens - 1)
        before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
        budget, prompt = Budget(keep_ratio), list(range(100, 100 + tokens))
        chosen = SELECTORS[name].select(cache, prompt, budget)
        assert chosen == SELECTORS[name].select(cache, prompt, budget)
        assert chosen.fault(tokens, cache.layers) == ""
        counts = {len(chosen.tokens(layer)) for layer in range(cache.layers)}
        assert max(counts) <= budget.tokens(tokens)
        if keep_ratio in (0, 1):
            assert chosen == Positions.of(range(budget.tokens(tokens)))
        after = (*cache.keys, *cache.values)
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


def make_cache(tokens: int) -> KVCache:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1, 2, tokens, 4, generator=generator) for _ in range(6)]
    return KVCache(tuple(tensors[:3]), tuple(tensors[3:]))


class Chooses:
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
    with pytest.raises(LatentWireError, match="order must be one of front, back, not 'middle'"):
        select(Channel("int8", 0.5, "middle"), make_cache(6), range(7))


@given(st.lists(st.integers(0, 40)), st.lists(st.lists(st.integers(0, 40)), min_size=1, max_size=4))
def test_positions_are_what_was_given(tokens: list[int], layers: list[list[int]]) -> None:
    assert Positions.of(tokens).tokens(0) == sorted({*tokens})
    chosen = Positions.of_layers(layers, range(41))
    assert [chosen.tokens(n) for n in range(len(layers))] == [sorted({*each}) for each in layers]
    assert chosen.fault(42, len(layers)) == ""
    found = [
        place + step
        for number in range(len(chosen.sections) + 1)
        for place, run in chosen.parts(0, number)
        for step in range(len(run))
    ]
    assert found == list(range(len({*layers[0]})))


def test_layers_that_all_send_the_same_do_not_differ() -> None:
    assert Positions.of_layers([[1, 2], [2, 1]], [1, 2]) == Positions.of([1, 2])
    assert Positions.of_layers([[1], [1]], range(5)).by_layer == ((range(1, 2),),) * 2
    assert Positions.of_layers([[], []], range(5)) == Positions()
