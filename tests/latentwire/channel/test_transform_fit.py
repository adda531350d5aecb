"""What the fit promises: components, an optimal allocation, rates that are kept, and less error."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from calibrations import fit
from correlated import correlated as correlated_tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentwire.channel.codec import CodecError
from latentwire.channel.transform import TOTAL, TransformTables, encode, round_trip
from latentwire.channel.transform_fit import (
    LADDER,
    allocate,
    candidates,
    fit_rates,
    group_sizes,
    principal_components,
    smoothed,
    split,
    whole,
)

quick = settings(deadline=None, max_examples=60, derandomize=True)


correlated = partial(correlated_tokens, directions=99)


def bits_per_element(tables: TransformTables, x: Tensor, tokens: int = 100) -> float:
    """Of real streams, `tokens` tokens each."""
    return 8 * sum(len(encode(tables, part)) for part in x.split(tokens)) / x.numel()


def error(tables: TransformTables, x: Tensor) -> float:
    """Mean squared error."""
    return float((round_trip(tables, x)[0] - x).square().mean())


# --- components ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [500, 24], ids=["more tokens", "fewer tokens"])
def test_components_are_those_of_the_singular_value_decomposition(tokens: int) -> None:
    x = correlated(tokens, 32, 1)
    mean, basis = principal_components(x)
    centred = x.double() - mean.double()
    torch.testing.assert_close(mean, x.mean(0), atol=1e-5, rtol=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    assert basis.shape == (32, min(tokens - 1, 32))
    gram = basis.double().T @ basis.double()
    torch.testing.assert_close(gram, torch.eye(len(gram)).double(), atol=1e-5, rtol=0)
    for column, row in zip(basis.T.double(), directions, strict=False):
        assert abs(float(column @ row)) == pytest.approx(1.0, abs=1e-4)


def test_the_rank_is_capped_and_noise_is_no_component() -> None:
    x = correlated(200, 16, 1)
    assert principal_components(x, rank=5)[1].shape == (16, 5)
    flat = torch.cat([x[:, :4], x[:, :4] * 2, torch.full((200, 8), 1e4)], dim=1)
    assert principal_components(flat)[1].shape == (16, 4)
    assert principal_components(torch.full((50, 6), 0.1))[1].shape == (6, 0)
    assert principal_components(x[:1])[1].shape == (16, 0)


@pytest.mark.parametrize("components", [0, 1, 2, 3, 16, 17, 32, 33, 500])
def test_groups_are_all_components_in_order(components: int) -> None:
    sizes = group_sizes(components)
    assert sum(sizes) == components
    assert all(1 <= size <= 16 for size in sizes)


# --- frequencies ---------------------------------------------------------------------------------


@quick
@given(st.lists(st.integers(0, 5000), min_size=3, max_size=301).filter(lambda c: len(c) % 2 == 1))
def test_frequencies_are_positive_and_sum_right(counts: list[int]) -> None:
    if sum(counts):
        frequencies = smoothed(np.array(counts))
        assert frequencies.min() >= 1
        assert frequencies.sum() == TOTAL
    weights = whole(np.array(counts) + 1e-9)
    assert weights.min() >= 1
    assert weights.sum() == TOTAL


def test_smoothing_costs_little_and_prefers_near_codes() -> None:
    draw = np.random.default_rng(1)
    codes = np.rint(draw.normal(size=(2, 400)) * 6).astype(int).clip(-30, 30) + 30
    seen, fresh = (np.bincount(row, minlength=61) for row in codes)

    def bits(frequencies: np.ndarray) -> float:
        return float(fresh @ (16 - np.log2(frequencies)) / fresh.sum())

    ideal = np.exp(-(((np.arange(61) - 30) / 6) ** 2) / 2)
    assert bits(smoothed(seen)) < bits(whole(seen.astype(float)))
    assert bits(smoothed(seen)) < bits(whole(ideal)) + 0.15
    unseen = smoothed(np.array([0, 0, 0, 0, 3, 0, 0, 4, 0, 5, 0, 0, 0, 0, 0]))
    assert unseen[6] > unseen[14]


def test_candidates_trade_error_for_bits() -> None:
    z = np.random.default_rng(2).normal(size=(4000, 4)) * 5
    ways = candidates(z)
    assert len(ways) == 1 + len(LADDER)
    assert ways[0].bits == 0
    assert ways[0].error == pytest.approx(100, rel=0.05)
    errors, bits = [way.error for way in ways], [way.bits for way in ways]
    assert errors == sorted(errors, reverse=True)
    assert bits == sorted(bits)
    # Shannon's bound for a Gaussian, and at high rates an entropy-coded uniform quantizer's 1.53 dB
    # above it (Gish and Pierce 1968).
    for way in ways[1:]:
        assert way.error / ways[0].error > 2 ** (-2 * way.bits / 4) * 0.95
    fine = next(way for way in ways if way.bits / 4 > 3)
    bound = ways[0].error * 2 ** (-2 * fine.bits / 4)
    assert fine.error / bound == pytest.approx(np.pi * np.e / 6, rel=0.06)


def test_pulling_toward_zero_lowers_the_error() -> None:
    z = np.random.default_rng(3).laplace(size=(4000, 2))
    coarse = candidates(z)[3]
    assert 0 < coarse.pull < 0.5
    plain = float(((z - np.rint(z / coarse.step) * coarse.step) ** 2).sum() / len(z))
    assert coarse.error < 0.95 * plain


# --- allocation ----------------------------------------------------------------------------------


@quick
@given(seed=st.integers(0, 2**20), groups=st.integers(1, 5), budget=st.integers(0, 40))
def test_the_allocation_is_the_optimum(seed: int, groups: int, budget: int) -> None:
    draw = np.random.default_rng(seed)
    errors = [draw.uniform(0, 10, size=4).tolist() for _ in range(groups)]
    bits = [[0, *draw.integers(0, 20, size=3).tolist()] for _ in range(groups)]
    choice = allocate(errors, bits, max(budget, 1), units=max(budget, 1))

    def total(table: list[list[float]], taken: tuple[int, ...]) -> float:
        return sum(row[index] for row, index in zip(table, taken, strict=True))

    affordable = [
        taken for taken in product(range(4), repeat=groups) if total(bits, taken) <= max(budget, 1)
    ]
    best = min(total(errors, taken) for taken in affordable)
    assert total(bits, tuple(choice)) <= max(budget, 1)
    assert total(errors, tuple(choice)) == pytest.approx(best)


@quick
@given(seed=st.integers(0, 2**20))
def test_the_budget_is_never_overdrawn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    errors = np.sort(draw.uniform(0, 10, size=(20, 6)))[:, ::-1].tolist()
    bits = [[0.0, *np.sort(row)] for row in draw.uniform(0, 9, size=(20, 5))]
    choice = allocate(errors, bits, 30.0, units=100)
    assert sum(row[index] for row, index in zip(bits, choice, strict=True)) <= 30 * (1 + 1e-9)


def test_the_allocation_agrees_with_a_lagrangian_sweep() -> None:
    """What a price a bit buys is the optimum for exactly that many bits (Shoham and Gersho)."""
    draw = np.random.default_rng(5)
    groups = [candidates(draw.normal(size=(500, 4)) * scale) for scale in np.logspace(1, -1, 12)]
    errors = [[way.error for way in ways] for ways in groups]
    bits = [[way.bits for way in ways] for ways in groups]
    for price in np.logspace(-3, 2, 15):
        chosen = [
            int(np.argmin(np.array(e) + price * np.array(b)))
            for e, b in zip(errors, bits, strict=True)
        ]
        spent = sum(row[index] for row, index in zip(bits, chosen, strict=True))
        if spent == 0:
            continue
        bought = sum(row[index] for row, index in zip(errors, chosen, strict=True))
        # A hair more than was spent: costs are rounded up to units.
        found = allocate(errors, bits, spent * 1.001, units=20_000)
        error_found = sum(row[index] for row, index in zip(errors, found, strict=True))
        assert error_found == pytest.approx(bought, rel=0.02)
        assert error_found <= bought * (1 + 1e-9)


def test_no_budget_buys_only_what_is_free() -> None:
    assert allocate([[5.0, 1.0], [3.0, 0.5]], [[0.0, 2.0], [0.0, 9.0]], 1.0) == [0, 0]
    assert allocate([], [], 1.0) == []
    with pytest.raises(ValueError, match="cost nothing"):
        allocate([[1.0]], [[1.0]], 1.0)


# --- the whole fit -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0, 2.0, 3.0])
def test_the_rate_is_kept_on_new_tokens(rate: float) -> None:
    tables = fit(correlated(4000, 64, 1), rate)
    assert bits_per_element(tables, correlated(2000, 64, 2)) == pytest.approx(rate, rel=0.05)


def test_more_bits_leave_less_error() -> None:
    rates = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0]
    x = correlated(1000, 48, 2)
    errors = [error(tables, x) for tables in fit_rates(correlated(4000, 48, 1), rates)]
    assert errors == sorted(errors, reverse=True)
    # Three decades of standard deviation in 48 components: theory's slope of 6.02 dB a bit, once
    # all components are coded.
    assert 10 * np.log10(errors[4] / errors[5]) == pytest.approx(12.04, abs=1.5)


def test_one_rate_is_one_of_many() -> None:
    x = correlated(500, 16, 1)
    one, many = fit(x, 1.0), fit_rates(x, [0.5, 1.0])[1]
    assert all(torch.equal(t, many.to_tensors()[name]) for name, t in one.to_tensors().items())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_beats_integers_for_each_channel_at_their_measured_bits(bits: int) -> None:
    """Per-channel uniform integers, ranges from the calibration tokens, and even granted an ideal
    entropy coder with a table for each channel."""
    calibration, x = correlated(4000, 64, 1), correlated(1000, 64, 2)
    mean = calibration.mean(0)
    largest = 2 ** (bits - 1) - 1
    scale = (calibration - mean).abs().amax(0) / largest
    codes = ((x - mean) / scale).round().clamp(-largest, largest)
    plain = float((codes * scale + mean - x).square().mean())
    spent = 0.0
    for channel in codes.T:
        share = torch.unique(channel, return_counts=True)[1] / len(channel)
        spent -= float((share * share.log2()).sum()) / 64
    tables = fit(calibration, spent)
    assert bits_per_element(tables, x) <= spent * 1.03
    assert error(tables, x) < plain / 4


def test_without_correlation_nothing_is_lost() -> None:
    draw = torch.Generator().manual_seed(1)
    tables = fit(torch.randn(4000, 16, generator=draw), 2.0)
    x = torch.randn(2000, 16, generator=draw)
    # Gaussian noise at 2 bits: 1.53 dB from the bound of 1/16 at most, and a little for the fit.
    assert error(tables, x) < np.pi * np.e / 6 / 16 * 1.08


def test_with_few_tokens_the_rate_is_measured_on_others() -> None:
    """100 tokens for 128 features: their own statistics promise too much."""
    few, x = correlated(100, 128, 1), correlated(1000, 128, 2)
    assert bits_per_element(fit(few, 1.0), x) == pytest.approx(1.0, rel=0.05)
    assert bits_per_element(fit(few, 1.0, measured=few), x) > 1.1
    first, held_out = split(few, None)
    assert (len(first), len(held_out)) == (75, 25)
    assert torch.equal(torch.cat([first, held_out]), few)
    assert split(correlated(512, 128, 1), None)[1].shape == (512, 128)


def test_given_tokens_are_measured_on() -> None:
    x, other = correlated(1000, 16, 1), correlated(1000, 16, 2) * 3
    assert bits_per_element(fit(x, 1.0, measured=other), other) == pytest.approx(1.0, rel=0.05)


def test_numbers_far_beyond_the_calibration_saturate() -> None:
    tables = fit(correlated(1000, 16, 1), 2.0)
    found = round_trip(tables, torch.full((2, 16), 1e9))[0]
    assert torch.isfinite(found).all()
    assert found.abs().max() < 1e4


@pytest.mark.parametrize("tokens", [1, 2, 3, 9])
def test_a_handful_of_tokens_makes_tables(tokens: int) -> None:
    x = correlated(tokens, 8, 1)
    tables = fit(x, 1.0)
    assert tables.components < tokens
    assert torch.isfinite(round_trip(tables, x)[0]).all()


def test_rank_limits_the_components() -> None:
    assert fit(correlated(500, 32, 1), 4.0, rank=7).components == 7


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(CodecError, match="positive number of bits"):
        fit(correlated(50, 4, 1), rate)


def test_bad_calibration_is_refused() -> None:
    x = correlated(50, 4, 1)
    with pytest.raises(CodecError, match="not to"):
        fit(x[0], 1.0)
    with pytest.raises(CodecError, match="not to"):
        fit(x[:0], 1.0)
    with pytest.raises(CodecError, match="cannot be measured"):
        fit(x, 1.0, measured=x[:, :3])
    x[3, 2] = torch.nan
    with pytest.raises(CodecError, match="NaN or infinite"):
        fit(x, 1.0)
    with pytest.raises(CodecError, match="NaN or infinite"):
        fit(x[10:], 1.0, measured=x)
