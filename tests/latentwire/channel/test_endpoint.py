from dataclasses import replace

import pytest
import torch
from chosen import positions_of
from small_link import CALIBRATION, LINK, make_cache
from tiny import make_fuser, make_model

from c2c.cache import Geometry, KVCache
from c2c.fuser import Fuser
from c2c.projector import Projector
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import PacketError, packet_bytes
from latentwire.channel.positions import Positions
from latentwire.channel.registry import CODECS, EXAMPLES, NAMES, needs_calibration
from latentwire.spec.condition import Channel

CPU = torch.device("cpu")
CUTS = [(1.0, "front"), (0.5, "front"), (0.5, "back"), (0.1, "back"), (0.0, "front")]


def same(first: KVCache, second: KVCache) -> bool:
    """Bit-equal where both hold numbers, NaN in the same places."""
    pairs = zip((*first.keys, *first.values), (*second.keys, *second.values), strict=True)
    return all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in pairs
    )


@pytest.mark.parametrize("name", (*NAMES, *EXAMPLES, "turbo2+zstd"))
@pytest.mark.parametrize(("keep_ratio", "order"), CUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_passing_through_is_sending_and_receiving(
    name: str, keep_ratio: float, order: str, dtype: torch.dtype
) -> None:
    calibration = CALIBRATION.hash if needs_calibration(name) else ""
    channel = Channel(name, keep_ratio, order, calibration)
    for tokens, rows in ((1, 1), (2, 2), (13, 3)):
        cache = make_cache(tokens, batch=rows).map(lambda tensor: tensor.to(dtype))
        prompts = [tokens + 1, tokens // 2 + 1, tokens + 1][:rows]
        chosen = [positions_of(channel, n) for n in prompts]
        found = LINK.simulate(channel, cache, chosen)
        kept, arrived, (wire_bytes, elements) = found.kept, found.cache, found.sizes()
        assert kept == chosen
        for row, prompt_tokens in enumerate(prompts):
            example = cache.pick(torch.tensor([row])).section(0, prompt_tokens - 1)
            packet = LINK.send(channel, example, chosen[row])
            assert len(packet) == wire_bytes[row]
            assert LINK.elements(packet) == elements[row]
            assert bool(packet) == bool(kept[row].sections)
            if not packet:
                continue
            layout, received = LINK.receive(packet, prompt_tokens, dtype, CPU)
            assert layout.kept == kept[row]
            own = arrived.pick(torch.tensor([row])).section(0, layout.tokens)
            assert same(received, own)


def test_nothing_kept_sends_nothing() -> None:
    assert LINK.send(Channel("int8"), make_cache(9), Positions()) == b""
    assert LINK.header(Channel("int8"), Positions()) is None
    assert LINK.elements(b"") == 0


def test_the_tokens_sent_are_those_kept() -> None:
    cache = make_cache(10)
    for order, start, stop in (("front", 0, 3), ("back", 7, 10)):
        channel = Channel("fp32", 0.3, order)
        packet = LINK.send(channel, cache, positions_of(channel, 11))
        layout, received = LINK.receive(packet, 11, torch.float32, CPU)
        assert layout.runs == (range(start, stop),)
        assert torch.equal(received.keys[2], cache.keys[2][:, :, start:stop])
        assert torch.equal(received.values[1], cache.values[1][:, :, start:stop])
        assert bool(received.keys[1].isnan().all()) and bool(received.values[0].isnan().all())


def gated(keys: set[int], values: set[int]) -> Fuser:
    """A fuser of a receiver with 5 layers and a sharer with 3: the map is 0, 0, 0, 1, 2."""
    receiver, sharer = make_model("qwen3", layers=5), make_model("qwen2", layers=3)
    fuser = make_fuser(sharer, receiver, gates="closed")
    with torch.no_grad():
        for layer, projector in enumerate(fuser.projectors):
            assert isinstance(projector, Projector)
            if layer in keys:
                projector.get_parameter("key_gate_logit").fill_(1.0)
            if layer in values:
                projector.get_parameter("value_gate_logit").fill_(1.0)
    return fuser


def test_closed_gates_send_nothing_and_repeated_layers_are_sent_once() -> None:
    channel, all_tokens = Channel("int8"), Positions.of(range(20))

    def endpoint(keys: set[int], values: set[int]) -> Endpoint:
        return Endpoint.of(gated(keys, values), b"12345678")

    def size(endpoint: Endpoint) -> int:
        header = endpoint.header(channel, all_tokens)
        assert header is not None
        return packet_bytes(header) or 0

    everything = set(range(5))
    whole = endpoint(everything, everything)
    assert whole.key_layers == whole.value_layers == (0, 1, 2)
    one = CODECS["int8"].payload_bytes((2, 20, 8))
    sizes = {
        "whole": size(whole),
        "one of three": size(endpoint({2, 3, 4}, everything)),
        "without layer 0": size(endpoint({3, 4}, everything)),
        "values only": size(endpoint(set(), everything)),
        "nothing": size(endpoint(set(), set())),
    }
    assert sizes["one of three"] == sizes["whole"]
    assert sizes["whole"] - sizes["without layer 0"] == one
    assert sizes["whole"] - sizes["values only"] == 3 * one
    assert sizes["whole"] - sizes["nothing"] == 6 * one
    assert sizes["whole"] == len(
        whole.send(channel, make_cache(20, geometry=whole.geometry), all_tokens)
    )


def test_what_only_closed_gates_would_read_is_not_needed() -> None:
    """The NaN that stands for an unsent tensor reaches no fused one."""
    fuser = gated({0, 3}, {4})
    endpoint = Endpoint.of(fuser, b"12345678")
    assert (endpoint.key_layers, endpoint.value_layers) == ((0, 1), (2,))
    cache = make_cache(6, geometry=fuser.sharer)
    own = make_cache(6, geometry=fuser.receiver)
    packet = endpoint.send(Channel("fp32"), cache, Positions.of(range(6)))
    _, received = endpoint.receive(packet, 7, torch.float32, CPU)
    assert same(fuser(received, own), fuser(cache, own))
    assert not any(bool(t.isnan().any()) for t in fuser(received, own).keys)


def test_packets_of_other_links_and_prompts_are_refused() -> None:
    channel = Channel("int4")
    packet = LINK.send(channel, make_cache(8), Positions.of(range(8)))
    for tokens in (9, 30):
        assert LINK.receive(packet, tokens, torch.float32, CPU)[0].runs == (range(8),)
    for tokens in (8, 2, 1):  # the prompt's last token is never fused
        with pytest.raises(PacketError, match="claims 8 tokens, where at most"):
            LINK.receive(packet, tokens, torch.float32, CPU)
    for other, words in (
        (replace(LINK, identity=b"another!"), "the packet is for pair"),
        (replace(LINK, geometry=Geometry(3, 2, 5)), "the sharer is"),
        (replace(LINK, key_layers=(0, 1)), "does not hold the layers that the fuser reads"),
        (replace(LINK, value_layers=()), "does not hold the layers that the fuser reads"),
    ):
        with pytest.raises(PacketError, match=words):
            other.receive(packet, 9, torch.float32, CPU)
    with pytest.raises(PacketError, match="too few"):
        LINK.receive(b"", 9, torch.float32, CPU)
