"""Schedules: of all of as many bits the one that costs least, and names say which bits go where."""

import itertools
import random

import pytest

from latentwire.channel.layout import Site
from latentwire.channel.registry import INTEGER_BITS, codec
from latentwire.evaluation.schedule_search import Bits, base_bits, rivals, search, spelled

SITES: list[Site] = [("key", 1), ("key", 2), ("key", 5), ("value", 2), ("value", 5)]


def costs(seed: int) -> dict[int, dict[Site, float]]:
    """Of any shape: more bits may cost more."""
    draw = random.Random(seed)
    return {bits: {site: draw.random() for site in SITES} for bits in INTEGER_BITS}


@pytest.mark.parametrize("mean_bits", [2, 3, 4, 5, 8])
def test_no_schedule_of_as_many_bits_costs_less(mean_bits: int) -> None:
    for seed in range(5):
        told = costs(seed)
        every = [
            sum(told[bits][site] for site, bits in zip(SITES, each, strict=True))
            for each in itertools.product(INTEGER_BITS, repeat=len(SITES))
            if sum(each) <= mean_bits * len(SITES)
        ]
        found = search(told, mean_bits)
        assert sum(found.values()) <= mean_bits * len(SITES)
        assert sum(told[bits][site] for site, bits in found.items()) == pytest.approx(min(every))


def is_named(bits: Bits, name: str) -> None:
    schedule = codec(name)
    for (kind, layer), grade in bits.items():
        at = schedule.choose((kind, layer), 6) if hasattr(schedule, "choose") else schedule
        assert at.name == f"int{grade}", name


def test_a_schedule_is_spelled_as_codecs_are() -> None:
    both = {(kind, layer): 8 if layer < 2 else 4 for layer in range(4) for kind in ("key", "value")}
    assert spelled(both, 4) == "int4/0-1:int8"
    apart = both | {("key", 3): 2, ("value", 0): 3}
    assert spelled(apart, 4) == "int4/1:int8/keys0:int8/keys3:int2/values0:int3"
    is_named(apart, spelled(apart, 4))
    assert spelled(dict.fromkeys(SITES, 3), 3) == "int3"


@pytest.mark.parametrize("mean_bits", range(2, 9))
def test_every_schedule_has_a_name_that_is_a_codec(mean_bits: int) -> None:
    for seed in range(20):
        found = search(costs(seed), mean_bits)
        is_named(found, spelled(found, base_bits(mean_bits)))


def test_rivals_are_uniform_bits_and_last_layers_of_no_more_bits() -> None:
    sites = [(kind, layer) for layer in range(12) for kind in ("key", "value")]
    told = {bits: dict.fromkeys(sites, 1.0) for bits in INTEGER_BITS}
    uniform, *protected = rivals(told, 3)
    assert {*uniform.values()} == {3}
    names = [spelled(each, 3) for each in protected]
    assert "int3/0-9:int2/10-11:int8" in names and "int3/0-7:int2/8-11:int4" in names
    assert all(sum(each.values()) <= 3 * len(sites) for each in protected)
    assert not any(name.endswith("4-11:int8") for name in names)  # 6 bits in the mean
    assert [{*each.values()} for each in rivals(told, 2)] == [{2}]
