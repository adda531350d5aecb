"""What arrives in training is what a packet would bring."""

import pytest
import torch
from tiny import loaded_pair, token_ids

from c2c.sharer import read
from c2c.training_loss import unchanged
from latentwire.channel.registry import codec
from latentwire.channel.selectors.registry import select
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel
from latentwire.training.channel import codecs_in_the_loop


@pytest.mark.parametrize("order", ["front", "back"])
def test_a_batch_arrives_as_its_packets_do(order: str) -> None:
    pair = loaded_pair(gates="open")
    ids = token_ids(2, 9)
    cache = read(pair.sharer, ids)
    channel = Channel("int4", 0.5, order)
    chosen = [select(channel, cache, row) for row in ids.tolist()]
    expected = pair.endpoint.simulate(channel, cache, chosen)
    (run,) = chosen[0].sections
    through = codecs_in_the_loop(pair.interface, ["int4"], 1)(0)
    found = through(cache.section(run.start, run.stop), torch.arange(2), [(run,)] * 2)
    for layer in pair.endpoint.key_layers:
        assert torch.equal(found.keys[layer], expected.cache.keys[layer])
        assert not torch.equal(found.keys[layer], cache.keys[layer][:, :, run.start : run.stop])


def test_which_codec_a_batch_gets_depends_on_its_number_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("latentwire.training.channel.codec", lambda n: asked.append(n) or codec(n))
    for numbers in (range(12), reversed(range(12))):
        channels = codecs_in_the_loop(loaded_pair().interface, ["int4", "int8"], seed=3)
        for number in numbers:
            channels(number)
    assert asked[:12] == asked[:11:-1]
    assert {*asked} == {"int4", "int8"}


def test_without_codecs_nothing_is_altered_and_calibrated_ones_are_refused() -> None:
    fuser = loaded_pair().interface
    assert codecs_in_the_loop(fuser, (), 1)(0) is unchanged
    later = codecs_in_the_loop(fuser, ["int4"], 1, first=2)
    assert [later(number) is unchanged for number in range(4)] == [1, 1, 0, 0]
    with pytest.raises(LatentWireError, match="codec=turbo2 needs a calibration"):
        codecs_in_the_loop(fuser, ["turbo2"], 1)
