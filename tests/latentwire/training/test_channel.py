"""What arrives in training is what a packet would bring."""

from dataclasses import replace

import pytest
import torch
from calibrations import make_calibration
from tiny import loaded_pair, token_ids

from c2c.sharer import read
from c2c.training_loss import unchanged
from latentwire.channel.codec_names import needs_calibration
from latentwire.channel.registry import codec
from latentwire.channel.selectors.registry import select
from latentwire.spec.condition import Channel
from latentwire.training.channel import codecs_in_the_loop, mapped_layers


@pytest.mark.parametrize("order", ["front", "back"])
@pytest.mark.parametrize("name", ["int4", "klt2", "kvtc1", "planes1_klt", "turbo2"])
def test_a_batch_arrives_as_its_packets_do(name: str, order: str) -> None:
    pair = loaded_pair(gates="open")
    layers = mapped_layers(pair.interface)  # type: ignore[arg-type]
    calibration = make_calibration(pair.endpoint.geometry, layers, layers)
    pair = replace(pair, endpoint=replace(pair.endpoint, calibration=calibration))
    ids = token_ids(2, 9)
    cache = read(pair.sharer, ids)
    used = calibration.hash if needs_calibration(name) else ""
    channel = Channel(name, 0.5, order, used)
    chosen = [select(channel, cache, row) for row in ids.tolist()]
    expected = pair.endpoint.simulate(channel, cache, chosen)
    (run,) = chosen[0].sections
    through = codecs_in_the_loop(pair.interface, [name], 1, calibration=calibration)(0)
    found = through(cache.section(run.start, run.stop), torch.arange(2), [(run,)] * 2)
    for layer in pair.endpoint.key_layers:
        assert torch.equal(found.keys[layer], expected.cache.keys[layer])
        assert not torch.equal(found.keys[layer], cache.keys[layer][:, :, run.start : run.stop])


def test_which_codec_a_batch_gets_depends_on_its_number_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    named = "latentwire.training.channel.codec"
    monkeypatch.setattr(named, lambda name, none: asked.append(name) or codec(name))
    for numbers in (range(12), reversed(range(12))):
        channels = codecs_in_the_loop(loaded_pair().interface, ["int4", "int8"], seed=3)
        for number in numbers:
            channels(number)
    assert asked[:12] == asked[:11:-1]
    assert {*asked} == {"int4", "int8"}


def test_without_codecs_nothing_is_altered() -> None:
    fuser = loaded_pair().interface
    assert codecs_in_the_loop(fuser, (), 1)(0) is unchanged
    later = codecs_in_the_loop(fuser, ["int4"], 1, first=2)
    assert [later(number) is unchanged for number in range(4)] == [1, 1, 0, 0]
