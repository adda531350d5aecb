"""Another selector's tokens, of some layers alone."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2c.cache import KVCache
from latentwire.channel.oracles.registry import chooses_by_layer, refusal, require_order
from latentwire.channel.selectors.of_layers import of_layers, spelled
from latentwire.channel.selectors.registry import OF_LAYERS, SELECTORS, select, selector
from latentwire.channel.selectors.selector import Budget
from latentwire.errors import LatentWireError
from latentwire.milestones import m3, m13
from latentwire.spec.condition import Channel

LAYERS = 6


def cache_of(tokens: int) -> KVCache:
    layer = torch.zeros(1, 1, tokens, 2)
    return KVCache((layer,) * LAYERS, (layer,) * LAYERS)


@given(
    st.sampled_from(OF_LAYERS),
    st.sets(st.integers(0, LAYERS - 1), min_size=1),
    st.integers(2, 40),
    st.integers(1, 40),
)
def test_named_layers_send_what_the_other_selects_and_no_others_do(
    name: str, layers: set[int], tokens: int, most: int
) -> None:
    named = f"{name}@{spelled(layers)}"
    prompt, budget = list(range(tokens)), Budget(1.0, most)
    alone = SELECTORS[name].select(cache_of(tokens - 1), prompt, budget)
    found = select(Channel("int8", 1, named, budget_bytes=9), cache_of(tokens - 1), prompt, most)
    for layer in range(LAYERS):
        assert found.tokens(layer) == (alone.tokens(layer) if layer in layers else [])


def test_layers_are_spelled_as_numbers_and_ranges() -> None:
    back = SELECTORS["back"]
    assert of_layers(back, "3+20-22").layers == {3, 20, 21, 22}
    for wrong in ("", "x", "-1", "3-", "3+", "03", "5-4", "3,4"):
        with pytest.raises(ValueError, match="layers"):
            of_layers(back, wrong)
    # Each choice has one name, so that nothing is computed twice.
    for wrong, right in {
        "3+3": "3",
        "4+2": "2+4",
        "1-3+2": "1-3",
        "2+3": "2-3",
        "4-4": "4",
    }.items():
        with pytest.raises(ValueError, match=rf"write {re.escape(right)}$"):
            of_layers(back, wrong)


def test_an_order_with_layers_is_one_wherever_orders_are_given() -> None:
    assert chooses_by_layer("front@2") and not chooses_by_layer("front")
    assert "same tokens" in refusal("front@2", inserts=True, aligned=False)
    assert refusal("front@2", inserts=False, aligned=True) == ""
    require_order("back@0-3")
    with pytest.raises(LatentWireError, match="layers stand behind one of front, back"):
        require_order("vnorm@2")
    with pytest.raises(LatentWireError, match="must be one of"):
        require_order("nothing")
    assert selector("nothing") is None
    for milestone in (m3, m13):
        (order,) = (each for each in milestone.PARAMETERS if each.name == "order")
        assert order.parse("back@2,front") == ("back@2", "front")
        for wrong in ("back@two", "oracle_delta@2", "backs"):
            with pytest.raises(ValueError):
                order.parse(wrong)


def test_a_layer_that_the_sharer_has_not_is_named() -> None:
    channel = Channel("int8", 0.5, f"back@{LAYERS}")
    with pytest.raises(LatentWireError, match="order names layer 6, and the sharer's are 0 to 5"):
        select(channel, cache_of(9), range(10))
