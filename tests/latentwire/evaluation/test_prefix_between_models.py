"""The interface `prefix` between two models of different shapes, by a projector."""

from itertools import cycle

import pytest
import torch
from random_questions import private_questions as asked
from random_questions import stopping
from tiny import make_tokenizer, randomize
from toy_prefix import toy_parts

from c2c.prefix_projector import ProjectedPrefix
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.evaluation import codec_measurement, engine, latency, latency_names, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import derange

CHANNELS = [
    Channel("fp32"),
    Channel("int4"),
    Channel("kivi4", 0.5, "back"),
    *(
        Channel("int8", ratio, name)
        for name, ratio in zip(SELECTORS, cycle((0.6, 0.2)), strict=False)
        if not SELECTORS[name].by_layer
    ),
    Channel("fp32", 0.0),
]


def two_models(dtype: torch.dtype) -> LoadedPair:
    """A projector with random weights, so that what arrives is seen by all of them."""
    receiver, sharer, prefix = toy_parts()
    randomize(prefix, seed=3)
    prefix.eval()
    endpoint = Endpoint.of(prefix, b"12345678")
    parts = (receiver.to(dtype), sharer.to(dtype), prefix.to(dtype))
    return stopping(LoadedPair(*parts, make_tokenizer(), endpoint))


def test_every_condition_in_batches_is_the_definitions() -> None:
    """In float64, since batches of other shapes round otherwise."""
    pair = two_models(torch.float64)
    questions = asked([(30, 5), (0, 9), (7, 12), (19, 1), (3, 6)])
    donors = derange(questions, 42)
    controls = ("matched", "deranged", "zero")
    sent = [Condition("c2c", c, control) for c in CHANNELS for control in controls]
    conditions = [Condition("receiver"), Condition("sharer"), *sent]
    found = engine.evaluate(pair, conditions, questions, donors, 3)
    for condition in conditions:
        for row, both in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, *both)
    outputs = {
        condition: tuple(record.output for record in found[condition])
        for condition in (conditions[0], *sent[:3])
    }
    assert len({*outputs.values()}) == 4  # nothing, own, another's and zeros
    # Layers that no projector reads are not sent.
    assert isinstance(pair.interface, ProjectedPrefix)
    read = pair.interface.layers_read("key")
    assert pair.endpoint.key_layers == pair.endpoint.value_layers == read == (0, 1)


def test_where_a_token_stood_is_where_its_key_is_turned_to() -> None:
    """Of a text that is sent from its back, the last tokens are at its end."""
    pair = two_models(torch.float32)
    (question,) = asked([(12, 4)])
    packet = pipeline.send(pair, Channel("fp32", 0.25, "back"), question, question, "matched")
    prefilled = pipeline.prefill(pair, question, packet)
    layout, received = pair.endpoint.receive(packet, 13, pair.dtype, pair.device)
    assert layout.positions().tolist() == [9, 10, 11]
    wanted = pair.interface.prepare(received, torch.tensor([9, 10, 11]))
    assert wanted is not None
    for layer, key in zip(prefilled.cache.layers, wanted.keys, strict=True):
        assert torch.equal(layer.keys[:, :, :3], key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errors_and_times_are_measured(dtype: torch.dtype) -> None:
    pair = two_models(dtype)
    questions = asked([(30, 5), (7, 9)])
    whole = "fp32" if dtype == torch.float32 else "bf16"
    assert codec_measurement.measure(pair, Channel(whole), questions)[0].kl_nats_mean == 0
    assert codec_measurement.measure(pair, Channel("int2"), questions)[0].kl_nats_mean > 0
    assert latency.measure(pair, questions[:1])[latency_names.SHARER_PREFILL] > 0
