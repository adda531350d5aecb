"""Schedules: bits go to the layers that lose most without them, and names say which."""

from collections.abc import Callable

import pytest

from latentwire.channel.registry import codec
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.schedule_search import losses, search, spelled
from latentwire.tasks.question import Question


@pytest.mark.parametrize("mean_bits", [2, 3, 4, 8])
def test_layers_that_lose_most_get_bits_and_the_mean_is_kept(mean_bits: int) -> None:
    size = {0: 0.1, 1: 1.0, 3: 0.1, 4: 0.5}
    lost = {bits: {layer: each / 2**bits for layer, each in size.items()} for bits in (8, 4, 3, 2)}
    found = search(lost, mean_bits)
    assert sum(found.values()) <= mean_bits * len(size)
    assert found[1] >= found[4] >= found[0] and found[1] >= mean_bits
    if mean_bits in (2, 8):
        assert {*found.values()} == {mean_bits}


def test_a_schedule_is_spelled_as_codecs_are_and_read_back() -> None:
    bits = {0: 8, 1: 8, 2: 4, 3: 2, 5: 2}
    name = spelled(bits, 4)
    assert name == "int4/0-1:int8/3:int2/5:int2"
    schedule = codec(name)
    for layer, grade in bits.items():
        assert schedule.choose(("key", layer), 6).name == f"int{grade}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("mean_bits", range(2, 9))
def test_every_mean_has_a_name_that_is_a_codec(mean_bits: int) -> None:
    lost = {bits: {layer: 2.0 ** (layer - bits) for layer in range(4)} for bits in (8, 4, 3, 2)}
    found = search(lost, mean_bits)
    schedule = codec(spelled(found, mean_bits))
    for layer, grade in found.items():
        at = schedule.choose(("key", layer), 6) if hasattr(schedule, "choose") else schedule
        assert at.name == f"int{grade}"


def test_more_bits_lose_less_in_every_layer(
    pair: LoadedPair, questions: Callable[..., list[Question]]
) -> None:
    lost = losses(pair, questions([12, 30]))
    read = {*pair.endpoint.key_layers, *pair.endpoint.value_layers}
    for layer in read:
        assert 0 < lost[8][layer] < lost[4][layer] < lost[3][layer] < lost[2][layer]
    assert all({*layers} == read for layers in lost.values())
