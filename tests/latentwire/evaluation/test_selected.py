"""Any choice of tokens: the engine gives what the definition gives; the packet alone decides."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from agreement import agree
from calibrations import make_calibration
from chosen import PLAIN_CONTROLS
from throw_away_selectors import MADE, registered

from c2c import sharer
from latentwire.channel.kvtc import KVTC
from latentwire.channel.packet import PacketError, encode
from latentwire.channel.positions import Positions
from latentwire.channel.selectors import registry
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange

MakeQuestions = Callable[..., list[Question]]
LENGTHS = [12, 2, 12, 23, 3, 15, 9]
CPU = torch.device("cpu")
PLAIN = [Condition("receiver"), Condition("c2c", Channel("int8", 0.5), "matched")]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.mark.parametrize("name", MADE)
def test_engine_and_definition_agree(
    name: str, precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    asked = questions(LENGTHS)
    conditions = PLAIN + [
        Condition("c2c", Channel(codec, ratio, name), control)
        for codec, ratio in (("int8", 0.1), ("kivi4+zstd", 0.5), ("int4/keys:fp16", 0.75))
        for control in PLAIN_CONTROLS
    ]
    records = agree(precise_pair, conditions, asked, derange(asked, 42), 4)
    outputs = {condition: [r.output for r in records[condition]] for condition in conditions}
    assert len({tuple(each) for each in outputs.values()}) > 7
    assert all(r.unanswered is None for kept in records.values() for r in kept)
    elements = [r.elements for r in records[conditions[2]]]
    assert max(elements) > 0 and records[conditions[2]][1].wire_bytes == 0  # of two tokens


def test_all_selectors_share_a_batch(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    asked = questions([14, 9, 30])
    conditions = PLAIN + [
        Condition("c2c", Channel("int4", 0.5, name), "matched") for name in SELECTORS
    ]
    agree(precise_pair, conditions[::-1], asked, derange(asked, 1), 8)


def test_what_cannot_differ_by_layer_is_recorded_and_stops_nothing(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    endpoint = precise_pair.endpoint
    calibration = make_calibration(endpoint.geometry, endpoint.key_layers, endpoint.value_layers)
    pair = replace(precise_pair, endpoint=replace(endpoint, calibration=calibration))
    asked = questions([12, 7, 12])
    conditions = [
        Condition("c2c", Channel(codec, 0.5, name, calibration.hash), "matched")
        for codec in ("turbo2", "kvtc1")
        for name in MADE
    ]
    records = engine.evaluate(pair, conditions, asked, asked, 3)
    for condition in conditions:
        assert records[condition] == [pipeline.evaluate(pair, condition, q, q) for q in asked]
        assert condition.channel is not None
        refused = condition.channel.codec == "kvtc1" and condition.channel.order != "scattered"
        for record in records[condition]:
            reason = "kvtc1: whole tokens are coded, which cannot be others in other layers"
            assert record.unanswered == (reason if refused else None)


@pytest.mark.parametrize("codec", ["kvtc1", "klt2"])
def test_a_batch_through_a_transform_where_the_cache_is_is_that_of_its_packets(
    codec: str,
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU, for which the CPU stands: rows of different tokens, by layer and of none."""
    monkeypatch.setattr(KVTC, "round_trip", KVTC.round_trip_there)
    endpoint = precise_pair.endpoint
    calibration = make_calibration(endpoint.geometry, endpoint.key_layers, endpoint.value_layers)
    pair = replace(precise_pair, endpoint=replace(endpoint, calibration=calibration))
    asked = questions(LENGTHS)
    conditions = [
        Condition("c2c", Channel(codec, ratio, name, calibration.hash), control)
        for ratio, name in (
            (1.0, "front"),
            *((ratio, name) for ratio in (0.1, 0.5) for name in MADE),
        )
        for control in ("matched", "zero")
    ]
    records = engine.evaluate(pair, conditions, asked, asked, 4)
    for condition in conditions:
        assert records[condition] == [pipeline.evaluate(pair, condition, q, q) for q in asked]
    assert len({record.wire_bytes for kept in records.values() for record in kept}) > 7


@pytest.mark.parametrize("name", ["front", "back", *MADE])
def test_the_packet_alone_decides_at_the_receiver(
    name: str, pair: LoadedPair, questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs neither condition nor selector, and merges what another packet names instead."""
    (question,) = questions([15])
    channel = Channel("fp32", 0.5, name)
    packet = pipeline.send(pair, channel, question, question, "matched")
    monkeypatch.setattr(registry, "SELECTORS", {})
    layout, received = pair.endpoint.receive(packet, 15, torch.float32, CPU)
    assert len(layout.runs) > 1 or name in ("front", "back", "largest_values")
    assert bool(layout.by_layer) == (name in ("largest_values", "ragged"))
    header = pair.endpoint.header(channel, layout.kept)
    assert header is not None and encode(received, header) == packet
    cache = sharer.read(pair.sharer, torch.tensor([question.token_ids]))
    moved = Positions.of([0, 3, 13])
    found = [
        pipeline.prefill(pair, question, sent).logits
        for sent in (packet, pair.endpoint.send(channel, cache, moved), b"")
    ]
    for first, second in itertools.combinations(found, 2):
        assert float((first - second).abs().max()) > 1e-3
    with pytest.raises(PacketError, match="where at most"):
        pair.endpoint.receive(packet, 3, torch.float32, CPU)
