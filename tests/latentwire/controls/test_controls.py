"""What every control promises, shipped or not; and a new one is known everywhere by its entry."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from agreement import agree
from random_questions import make_questions, stopping
from throw_away_controls import MADE, registered
from tiny import loaded_pair, make_fuser, make_model

from c2c.cache import KVCache
from c2c.rope import redo, undo
from latentwire.analysis import curve
from latentwire.channel.calibration import from_bytes
from latentwire.channel.endpoint import Endpoint
from latentwire.controls.control import Known
from latentwire.controls.registry import CONTROLS, is_lent
from latentwire.evaluation.fit_calibration import calibrate
from latentwire.evaluation.record import make_record
from latentwire.milestones.m0 import PARAMETERS
from latentwire.spec.axes import SYSTEMS
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import Setting
from latentwire.tasks.question import derange

DOCS = Path(__file__).parents[3] / "docs" / "adding_a_control.md"
SHIPPED = tuple(CONTROLS)
SETTING = Setting("pair", "a", "set", "b", 1, "float32", 42)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


def make_cache(rows: int, tokens: int) -> KVCache:
    generator = torch.Generator().manual_seed(rows)
    tensors = [torch.randn(rows, 2, tokens, 4, generator=generator) for _ in range(4)]
    return KVCache(tuple(tensors[:2]), tuple(tensors[2:]))


FREQUENCIES = torch.tensor([1.0, 0.1], dtype=torch.float64)


def applied(
    name: str,
    cache: KVCache,
    tokens: list[int],
    seeds: list[int],
    sent: Sequence[Sequence[int]] | None = None,
) -> KVCache:
    """What a control sends of a cache of 2 layers and 2 heads of 4 channels."""
    sent = [range(n) for n in tokens] if sent is None else sent
    message = CONTROLS[name].message
    mean = torch.arange(16.0).view(2, 2, 4)
    return (
        message(cache, tokens, Known(seeds, sent, FREQUENCIES, (mean, mean + 100)))
        if message
        else cache
    )


@pytest.mark.parametrize("name", [*SHIPPED, *MADE])
def test_every_control_keeps_to_the_contract(name: str) -> None:
    cache, tokens = make_cache(3, 7), [7, 4, 1]
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    sent = applied(name, cache, tokens, [1, 2, 3])
    after = (*cache.keys, *cache.values)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    for row, n in enumerate(tokens):
        alone = applied(name, cache.rows(row, row + 1).section(0, n), [n], [row + 1])
        for kind in ("keys", "values"):
            for ours, theirs in zip(getattr(sent, kind), getattr(alone, kind), strict=True):
                assert ours.shape == cache.keys[0].shape and theirs.shape == (1, 2, n, 4)
                assert torch.equal(ours[row, :, :n], theirs[0])


def test_the_mean_says_nothing_of_the_own_cache_and_stands_at_its_positions() -> None:
    one, other = (applied("mean", make_cache(rows, 5), [5] * rows, [0] * rows) for rows in (1, 2))
    for kind in ("keys", "values"):
        for ours, theirs in zip(getattr(one, kind), getattr(other, kind), strict=True):
            assert torch.equal(ours.expand(2, -1, -1, -1), theirs)
    mean, at = torch.arange(16.0).view(2, 2, 4), torch.arange(5)
    for layer in range(2):
        off = undo(one.keys[layer].double(), at, FREQUENCIES)
        torch.testing.assert_close(off[0], mean[layer][:, None].expand(-1, 5, -1).double())
        assert torch.equal(one.values[layer][0, :, 3], mean[layer] + 100)


def test_noise_has_the_moments_of_the_own_cache_without_positions() -> None:
    cache, n = make_cache(2, 4000), [4000, 900]
    # Keys whose mean shows only where their positions are taken off.
    keys = tuple(redo(2 * k.double() + 4, torch.arange(4000), FREQUENCIES) for k in cache.keys)
    cache = replace(cache, keys=keys, values=tuple(3 * v + 5 for v in cache.values))
    sent, other = (applied("noise", cache, n, seeds) for seeds in ([7, 8], [7, 9]))
    for row, tokens in enumerate(n):
        for layer in range(2):
            for kind in ("keys", "values"):
                own, drawn = (
                    getattr(each, kind)[layer][row, :, :tokens].double() for each in (cache, sent)
                )
                if kind == "keys":
                    at = torch.arange(tokens)
                    own, drawn = (undo(each, at, FREQUENCIES) for each in (own, drawn))
                spread = own.std(1) / tokens**0.5
                assert bool(((own.mean(1) - drawn.mean(1)).abs() < 5 * spread).all())
                assert bool(((own.std(1) / drawn.std(1) - 1).abs() < 4 / tokens**0.5).all())
                paired = torch.stack([own.flatten(), drawn.flatten()])
                if kind == "keys":
                    assert abs(float(torch.corrcoef(paired)[0, 1])) < 0.1
    assert torch.equal(sent.keys[0][0], other.keys[0][0])
    assert not torch.equal(sent.keys[0][1], other.keys[0][1])


def test_what_is_never_sent_has_no_part_in_the_noise() -> None:
    """Padding of prompts that are aligned stands in the cache and is no message."""
    plain, sent = make_cache(1, 6), [[0, 2, 5]]
    spoilt = plain.map(torch.clone)
    for tensor in (*spoilt.keys, *spoilt.values):
        tensor[:, :, [1, 3, 4]] = 1e6
    same, other = (applied("noise", cache, [6], [7], sent) for cache in (plain, spoilt))
    for ours, theirs in zip((*same.keys, *same.values), (*other.keys, *other.values), strict=True):
        assert torch.equal(ours[:, :, sent[0]], theirs[:, :, sent[0]])
        assert float(theirs.abs().max()) < 100
    empty = applied("noise", plain, [6], [7], [[]])
    assert all(bool(tensor.isfinite().all()) for tensor in (*empty.keys, *empty.values))


def test_noise_serves_a_sharer_whose_rotary_embedding_cannot_be_taken_off() -> None:
    pair = stopping(loaded_pair())
    sharer = make_model("gemma3", seed=2)
    fuser = make_fuser(sharer, pair.receiver, seed=3)
    endpoint = Endpoint.of(fuser, bytes(range(8)))
    pair = replace(pair, sharer=sharer, interface=fuser, endpoint=endpoint)
    asked = make_questions([9, 5])
    agree(pair, [Condition("c2c", Channel("bf16"), "noise")], asked, asked, 2)


def test_controls_are_named_where_users_look() -> None:
    (controls,) = (parameter for parameter in PARAMETERS if parameter.name == "controls")
    for name in SHIPPED:
        assert controls.parse(name) == (name,)
        assert f"| `{name}` |" in DOCS.read_text()


def test_engine_and_definition_agree_and_records_name_who_lent() -> None:
    pair, asked = stopping(loaded_pair(torch.float64)), make_questions([12, 2, 12, 23, 3])
    found = from_bytes(calibrate(pair, make_questions([40] * 3, seed=9), {}), "it")
    pair = replace(pair, endpoint=replace(pair.endpoint, calibration=found))
    donors = derange(asked, 42)
    conditions = [
        Condition("c2c", Channel(codec, ratio, order), control)
        for codec, ratio, order in (("bf16", 1.0, "front"), ("int8", 0.5, "back"))
        for control in CONTROLS
    ]
    records = agree(pair, conditions, asked, donors, 3)
    outputs = {tuple(r.output for r in kept) for kept in records.values()}
    assert len(outputs) == 2 * (len(CONTROLS) - 1)  # `lent_too` sends what `deranged` sends
    for condition, kept in records.items():
        lent = condition.control in ("deranged", "lent_reversed", "lent_too")
        names = [donor.example.id if lent else None for donor in donors]
        assert [record.donor_id for record in kept] == names


def test_what_is_lent_alone_has_the_seed_and_texts_have_what_needs_no_cache() -> None:
    for name in CONTROLS:
        condition = Condition("c2c", Channel("int8"), name)
        prints = {replace(SETTING, seed=s).condition_fingerprint(condition) for s in (1, 2)}
        assert len(prints) == 1 + is_lent(name)
    assert SYSTEMS["text"].controls == ("matched", "deranged", "lent_too")
    assert SYSTEMS["receiver"].controls == ("none",)


@pytest.fixture
def later_curve() -> ModuleType:
    """The module as it is where the controls of this test are shipped."""
    assert curve.__file__ is not None
    spec = importlib.util.spec_from_file_location("later_curve", curve.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_curve_has_columns_of_each_in_their_places(later_curve: ModuleType) -> None:
    new = [name for name in later_curve.COLUMNS if name not in curve.COLUMNS]
    told = ("accuracy", "score", "examples", "unanswered")
    told += ("top_letter", "top_letter_share", "degenerate")
    assert sorted(new) == sorted(f"{name}_{what}" for name in MADE for what in told)
    assert [name for name in later_curve.COLUMNS if name not in new] == list(curve.COLUMNS)
    question, donor = make_questions([5, 5])
    results = []
    for control, answer in (("matched", "A"), ("reversed", "A"), ("lent_reversed", None)):
        condition = Condition("c2c", Channel("int8"), control)
        record = make_record(condition, question, donor, answer, wire_bytes=9)
        told = {"pair": "p", "dataset": "set", "source": "local", "seconds": 1.0}
        values = {**vars(condition.point), "kv_bits": 8.0, **told}
        results.append(later_curve.ConditionResult(**values, examples_total=1, records=(record,)))
    row = later_curve.build_curve(results).iloc[0]
    assert (row["accuracy"], row["reversed_accuracy"], row["lent_reversed_accuracy"]) == (1, 1, 0)
    assert (row["reversed_examples"], row["lent_too_examples"]) == (1, 0)
    assert (row["reversed_top_letter"], row["reversed_degenerate"]) == ("A", True)
    assert row["pairing_examples"] == 0  # which the deranged control alone makes
