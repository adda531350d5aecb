"""Interfaces of other kinds: the definition and batches give the same answers."""

from collections.abc import Callable

import pytest
from other_interfaces import Average, Front
from random_questions import stopping
from tiny import make_model, make_tokenizer

from c2c.cache import geometry
from c2c.interface import Interface
from latentwire.channel.endpoint import Endpoint
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange

CHANNELS = [
    Channel(codec, ratio, order)
    for codec, ratio, order in (
        ("bf16", 1.0, "front"),
        ("int4", 1.0, "front"),
        ("int8", 0.5, "front"),
        ("int8", 0.1, "front"),
        ("int8", 0.4, "back"),
        ("int8", 0.0, "front"),
    )
]


@pytest.fixture(scope="module", params=[Average, Front])
def pair(request: pytest.FixtureRequest) -> LoadedPair:
    """Two models whose caches have one shape, in float64: see `precise_pair`."""
    receiver, sharer = (make_model("qwen3", seed, layers=3).double() for seed in (1, 2))
    interface: Interface = request.param(geometry(sharer.config))
    endpoint = Endpoint.of(interface, b"12345678")
    return stopping(LoadedPair(receiver, sharer, interface, make_tokenizer(), endpoint))


def test_batches_give_what_the_definition_gives(
    pair: LoadedPair, questions: Callable[..., list[Question]], short_answers: int
) -> None:
    asked = questions([12, 2, 9, 14, 9])
    donors = derange(asked, 42)
    alone = [Condition("receiver"), Condition("sharer")]
    conditions = [
        *alone,
        *(Condition("c2c", c, control) for c in CHANNELS for control in ("matched", "deranged")),
    ]
    found = engine.evaluate(pair, conditions, asked, donors, 4)
    for condition in conditions:
        for row, (question, donor) in enumerate(zip(asked, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, question, donor)
    outputs = [[record.output for record in found[c]] for c in conditions]
    receiver, matched, deranged, nothing = outputs[0], outputs[2], outputs[3], outputs[-2]
    assert nothing == receiver != matched != deranged
    read = [len(pair.interface.layers_read(kind)) for kind in ("key", "value")]
    assert [len(pair.endpoint.key_layers), len(pair.endpoint.value_layers)] == read
