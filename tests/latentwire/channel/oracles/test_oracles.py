"""What oracles choose: the published rules, where each sharer layer is merged into one layer."""

from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import loaded_pair, make_fuser, make_model, make_tokenizer, token_ids
from torch import Tensor

from c2c import sharer
from c2c.cache import KVCache
from c2c.fuser import Fuser
from c2c.oracle_selection import TopTokens, fuse_top_tokens, norms
from c2c.quantize import round_trip
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.oracles.oracle import Foreseen
from latentwire.channel.oracles.registry import ORACLES, orders, refusal, require_order
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.errors import LatentWireError
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import foresee
from latentwire.evaluation.reading import Text
from latentwire.milestones.m3 import PARAMETERS
from latentwire.spec.axes import is_oracle
from latentwire.spec.condition import Channel

DOCS = Path(__file__).parents[4] / "docs" / "adding_a_selector.md"
TOKENS = 12


def pair_of_three_layers() -> LoadedPair:
    receiver, sender = make_model("qwen3", seed=1, layers=3), make_model("qwen2", seed=2, layers=3)
    fuser = make_fuser(sender, receiver, seed=3, gates="open")
    endpoint = Endpoint.of(fuser, b"12345678")
    return LoadedPair(receiver, sender, fuser, make_tokenizer(), endpoint)


def caches(pair: LoadedPair) -> tuple[list[int], KVCache, KVCache]:
    ids = token_ids(1, TOKENS + 1)
    return ids[0].tolist(), sharer.read(pair.sharer, ids), sharer.read(pair.receiver, ids)


@pytest.mark.parametrize(
    ("order", "mode"),
    [("oracle_proj_vnorm", "proj_vnorm_topk"), ("oracle_delta", "delta_proj_vnorm_topk")],
)
@pytest.mark.parametrize("bits", [8, 2])
def test_the_choice_is_the_published_one(order: str, mode: str, bits: int) -> None:
    pair = pair_of_three_layers()
    ids, sent, own = caches(pair)
    assert isinstance(pair.interface, Fuser)
    rule, quantizer = TopTokens(mode, 0.25), partial(round_trip, bits=bits)
    _, chosen = fuse_top_tokens(pair.interface, sent, own, rule, quantizer)
    (found,) = foresee(pair, Channel(f"int{bits}", 0.25, order), sent, [Text(tuple(ids))], own)
    assert {layer: found.tokens(layer) for layer in range(3)} == chosen
    assert found.sections == (range(TOKENS),)


def test_of_a_sharer_layer_that_several_layers_take_scores_are_added() -> None:
    pair = loaded_pair(gates="open")  # 5 layers of 3
    _, sent, own = caches(pair)
    merged = pair.interface.merge(sent, own)
    wanted = [torch.zeros(TOKENS) for _ in range(3)]
    for layer, source in pair.interface.sources.items():
        wanted[source] = wanted[source] + norms(merged.values[layer] - own.values[layer])
    found: Tensor = Foreseen(pair.interface, sent, own).scores(ORACLES["oracle_delta"])
    torch.testing.assert_close(found[:, 0], torch.stack(wanted))


def test_an_oracle_is_no_selector_and_says_what_it_is() -> None:
    (order,) = (parameter for parameter in PARAMETERS if parameter.name == "order")
    assert not set(SELECTORS) & set(ORACLES)
    assert [name for name in orders() if is_oracle(name)] == list(ORACLES)
    for name, oracle in ORACLES.items():
        assert not hasattr(oracle, "select")
        assert order.parse(name) == (name,)
        assert f"{name} ({oracle.help})" in order.help
        assert f"| `{name}` |" in DOCS.read_text()
    with pytest.raises(LatentWireError, match=r"order must be one of front, .*, not 'oracle_x'"):
        require_order("oracle_x")


def test_what_a_pair_cannot_have_is_said() -> None:
    assert not any(refusal(name, False, False) for name in orders())
    refused = {name for name in orders() if refusal(name, True, False)}
    assert refused == {*ORACLES, *(n for n, each in SELECTORS.items() if each.by_layer)}
    assert {name for name in orders() if refusal(name, False, True)} == set(ORACLES)
