"""What the study's labels allow, for any two geometries; its own scores say that it is so."""

import pytest
import torch
from transformers import Qwen3Config

from c2c.cache import Geometry, KVCache
from c2c.fuser import new_fuser
from c2c.oracle_selection import RateDistortionGreedy, fuse_rate_distortion
from c2c.projector import ProjectorSize
from latentwire.analysis.reproduction.published_accuracies import (
    LATENTWIRE_2026_02,
    CacheSize,
    load_study,
)
from latentwire.analysis.reproduction.published_budgets import (
    counted_size,
    generosity,
    label_of,
    share_of_16_bits,
    study_generosity,
    study_table,
)


def test_a_label_allows_what_the_two_geometries_say() -> None:
    # 2 x 8 heads x 64 channels x 2 bytes for 2 x 2 x 64 x 1; layers do not matter.
    assert study_generosity() == 2048 / 256 == 8
    assert generosity(CacheSize(3, 4, 16), CacheSize(7, 2, 32)) == 256 / 128
    assert share_of_16_bits(1 / 32, 8) == 0.125 and share_of_16_bits(1 / 4, 8) == 0.5
    assert label_of(0.125, 8) == 1 / 32 and label_of(0.25, 2) == 0.25


def test_a_receiver_is_counted_as_the_study_did() -> None:
    """Qwen3-0.6B has 128 channels a head, and 1024 / 16 were counted."""
    config = Qwen3Config(
        hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128,
    )  # fmt: skip
    assert counted_size(config) == load_study(LATENTWIRE_2026_02).counted


@pytest.mark.parametrize("label", [1 / 32, 1 / 16, 1 / 8, 1 / 4])
def test_the_rule_of_the_protocol_buys_as_many_tokens(label: float) -> None:
    sharer, receiver = Geometry(2, 2, 4), Geometry(3, 4, 8)
    counted = CacheSize(3, 4, 6)
    generator = torch.Generator().manual_seed(5)

    def random_cache(shape: Geometry) -> KVCache:
        size = (1, shape.kv_heads, 64, shape.head_dim)
        keys, values = (
            tuple(torch.randn(size, generator=generator) for _ in range(shape.layers))
            for _ in range(2)
        )
        return KVCache(keys, values)

    times = generosity(counted, CacheSize(**vars(sharer)))
    budget = label * 64 * 2 * counted.kv_heads * counted.head_dim * 2  # bytes of a layer
    # The rule's own fractions are of the sharer's layer in 8 bits.
    rule = RateDistortionGreedy(("int8",), budget / (64 * 2 * sharer.width), 0, False)
    fuser = new_fuser(sharer, receiver, ProjectorSize(hidden_dim=8, intermediate_dim=8))
    fuser.eval()
    _, chosen = fuse_rate_distortion(fuser, random_cache(sharer), random_cache(receiver), rule)
    bought = {len(layer["int8"]) for layer in chosen.values()}
    assert bought == {int(64 * 2 * share_of_16_bits(label, times))}


def test_the_published_scores_say_so_too() -> None:
    """1/32 scored what a quarter of the tokens did by the same scores, in both question sets, and
    1/4 what all of them did in int8."""
    study, scored = load_study(LATENTWIRE_2026_02), study_table()
    found = {(row.dataset, row.label): row.accuracy for row in scored.itertuples()}
    for dataset in ("arc_c", "openbookqa"):
        delta = {
            f.keep_ratio: f.accuracy
            for f in study.selected
            if (f.dataset, f.codec, f.order) == (dataset, "int8", "oracle_delta")
        }
        whole = next(
            f.accuracy
            for f in study.figures
            if (f.dataset, f.codec, f.keep_ratio) == (dataset, "int8", 1)
        )
        assert found[dataset, "1/32"] == delta[0.25] and found[dataset, "1/4"] == whole
        assert found[dataset, "1/8"] != whole  # a little less than all
