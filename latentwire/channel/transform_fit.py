"""Fitting the tables of `transform` on calibration tokens.

    mean, basis     principal components, by an eigendecomposition in float64
    candidates      every group of components is coded with every step of a geometric ladder, and
                    its squared error and its bits under the very table it would get are measured
    allocation      one candidate a group, least total error within the bits there are: the
                    multiple-choice knapsack problem, solved by dynamic programming

Source: KVTC (arXiv:2511.01815), whose allocation this is, with measured bits of an entropy coder in
the place of nominal ones.

Components fitted to few tokens look as if they carried more variance than they do on others, and
steps and frequencies made from those tokens would be wrong on all others. So they are measured on
tokens that the basis has not seen when there are fewer than SCARCE tokens a feature.

Works on the device of the data; the tables lie on the CPU. Deterministic for a device and a
library version, up to the sign of components.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentwire.channel.codec import CodecError, check_finite
from latentwire.channel.transform import FREQUENCY_BITS, MAX_CLIP, TOTAL, TransformTables

FIRST_SIZES = (1, 1, 2, 4, 8)
SIZE = 16  # components of every later group
LADDER = tuple(2.0 ** (2 - k / 2) for k in range(18))  # steps, in the group's standard deviation
HEADROOM = 1.25  # codes may go this far beyond the largest measured one
PRIOR = 8.0  # weight of the assumed shape against the counts, in observations

SCARCE = 4  # tokens a feature below which steps and frequencies are measured on other tokens
HELD_OUT = 4  # one token in so many is then kept for that

NEGLIGIBLE = 1e-9  # variance against the first component's: float64's noise from there on
UNITS_A_GROUP = 128  # of the knapsack's budget; rounding up costs half a unit a group


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way of coding one group; a group that is dropped has step 0 and no frequencies."""

    error: float
    """Mean over measured tokens of the squared error, summed over the group's components."""
    bits: float
    """Mean bits a token under `frequencies`, for all of the group's components."""
    step: float = 0.0
    pull: float = 0.0
    clip: int = 0
    frequencies: np.ndarray | None = None


def fit_rates(
    x: Tensor,
    rates: Sequence[float],
    *,
    rank: int | None = None,
    measured: Tensor | None = None,
) -> list[TransformTables]:
    """Tables for tokens like the rows of `x`, at each of some rates; see `fit`."""
    return [tables for _, tables in fit(x, rates, rank=rank, measured=measured)[1]]


def fit(
    x: Tensor,
    rates: Sequence[float],
    *,
    rank: int | None = None,
    measured: Tensor | None = None,
) -> tuple[Tensor, list[tuple[Tensor, TransformTables]]]:
    """A basis float32 [F, R] for tokens like the rows of `x` [N, F] (any float type), and for each
    of some rates which of its columns are coded (int32) and the tables of these.

    A rate is the mean of bits over all F numbers of a token and over tokens, entropy-coded; the
    tables spend at most that on what they are measured on, and less where even the finest steps
    need less. `rank` limits the components kept before bits are allocated. `measured` [M, F] are
    tokens to measure steps and frequencies on; without it these are `x`, or where N < 4 F the last
    quarter of its rows, which are then kept from the basis. Rows should hold whole examples.

    Raises CodecError for numbers that are not finite or a rate that is not positive.
    """
    if not all(0 < rate < float("inf") for rate in rates):
        raise CodecError("a transform's rate is a positive number of bits per element")
    if x.dim() != 2 or x.shape[0] < 1 or x.shape[1] < 1:
        raise CodecError(f"a transform is fitted to tokens of numbers, not to {list(x.shape)}")
    x, measured = split(x, measured)
    if measured.dim() != 2 or len(measured) < 1 or measured.shape[1] != x.shape[1]:
        raise CodecError(
            f"tokens of {x.shape[1]} numbers cannot be measured on {list(measured.shape)}"
        )
    check_finite(x)
    check_finite(measured)
    mean, basis = principal_components(x, rank)
    projected = (measured.double() - mean.double()) @ basis.double()
    sizes = group_sizes(basis.shape[1])
    parts = [part.cpu().numpy() for part in projected.split(sizes, dim=1)]
    # NumPy runs without the lock; of small models torch has one thread.
    count = max(2, torch.get_num_threads())
    with ThreadPoolExecutor(count) as threads:
        groups = list(threads.map(candidates, parts))
    tables = [_tables(mean, basis, sizes, groups, rate * x.shape[1]) for rate in rates]
    return basis.cpu(), tables


def split(x: Tensor, measured: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens for the basis and tokens to measure on; see `fit`."""
    tokens, features = x.shape
    if measured is not None:
        return x, measured
    if tokens >= SCARCE * features or tokens < HELD_OUT:
        return x, x
    first = tokens - tokens // HELD_OUT
    return x[:first], x[first:]


def principal_components(x: Tensor, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean float32 [F] and orthonormal basis float32 [F, R] of the rows of `x` [N, F], by falling
    variance. R is at most `rank`, F and N - 1, and counts no component that only noise fills."""
    mean = x.double().mean(0).float()
    centred = x.double() - mean.double()
    tokens, features = x.shape
    if features <= tokens:
        variance, basis = torch.linalg.eigh(centred.T @ centred)
    else:  # the same components from the smaller matrix of inner products
        variance, weights = torch.linalg.eigh(centred @ centred.T)
        basis = centred.T @ weights / variance.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    variance, basis = variance.flip(0), basis.flip(1)
    # The mean was rounded to float32: what is smaller than that is no variance.
    floor = tokens * float(mean.abs().max()) ** 2 * torch.finfo(torch.float32).eps ** 2 * features
    kept = int((variance > max(NEGLIGIBLE * float(variance[0]), floor)).sum())
    limits = [kept, features, max(tokens - 1, 0)] + ([] if rank is None else [rank])
    return mean, basis[:, : max(min(limits), 0)].float()


def group_sizes(components: int) -> list[int]:
    """Neighbours that share a table: alone at first, where variance falls fast, then sixteen."""
    sizes: list[int] = []
    for size in FIRST_SIZES:
        sizes.append(min(size, components - sum(sizes)))
    sizes += [SIZE] * ((components - sum(sizes)) // SIZE) + [(components - sum(sizes)) % SIZE]
    return [size for size in sizes if size > 0]


def candidates(z: np.ndarray) -> list[Candidate]:
    """Ways of coding a group with components float64 [M, size]: dropped first, then ever finer."""
    energy = float((z**2).sum() / len(z))
    ways = [Candidate(error=energy, bits=0.0)]
    deviation = (energy / z.shape[1]) ** 0.5
    if not deviation > 0:
        return ways
    return ways + [_measure(z, float(np.float32(deviation * ratio))) for ratio in LADDER]


def _measure(z: np.ndarray, step: float) -> Candidate:
    codes = np.rint(z / step)
    largest = int(min(np.ceil(HEADROOM * np.abs(codes).max()) + 1, MAX_CLIP))
    codes = codes.clip(-largest, largest)
    within = (codes != 0) & (np.abs(codes) < largest)  # a saturated code says nothing of its cell
    beyond = np.abs(codes[within]) - np.abs(z[within]) / step
    pull = float(np.float32(beyond.mean().clip(0, 0.5))) if within.any() else 0.0
    error = float(((z - np.sign(codes) * (np.abs(codes) - pull) * step) ** 2).sum() / len(z))
    counts = np.bincount((codes + largest).astype(np.int64).ravel(), minlength=2 * largest + 1)
    frequencies = smoothed(counts)
    bits = float(counts @ (FREQUENCY_BITS - np.log2(frequencies)) / len(z))
    return Candidate(error, bits, step, pull, largest, frequencies)


def smoothed(counts: np.ndarray) -> np.ndarray:
    """Frequencies int32 [2 clip + 1], at least 1 and TOTAL together, for counts of codes.

    The counts are mixed with a two-sided geometric distribution of the same mean magnitude, as if
    PRIOR more codes had been seen: a code that happened not to occur is not taken for impossible.
    """
    magnitude = np.abs(np.arange(len(counts)) - len(counts) // 2)
    mean = float(counts @ magnitude / counts.sum())
    # The parameter of a two-sided geometric distribution with that mean magnitude.
    ratio = ((1 + mean**2) ** 0.5 - 1) / mean if mean > 0 else 0.0
    shape = ratio**magnitude
    return whole(counts + PRIOR * shape / shape.sum())


def whole(weights: np.ndarray) -> np.ndarray:
    """Integers int32 in proportion to `weights`, at least 1 and TOTAL together."""
    free = TOTAL - len(weights)
    exact = weights / weights.sum() * free
    frequencies = np.floor(exact).astype(np.int64)
    short = free - int(frequencies.sum())
    frequencies[np.argsort(frequencies - exact, kind="stable")[:short]] += 1
    return (frequencies + 1).astype(np.int32)


def allocate(
    errors: Sequence[Sequence[float]],
    bits: Sequence[Sequence[float]],
    budget: float,
    units: int | None = None,
) -> list[int]:
    """For each group the candidate to take: least total error, at most `budget` bits in total.

    Costs are rounded up to whole units of `budget / units`; for costs so rounded the choice is
    the optimum. Every group's first candidate must cost nothing. Ties go to fewer bits.
    """
    units = units or max(4096, UNITS_A_GROUP * len(errors))
    unit = budget / units
    best = np.zeros(units + 1)  # least error so far with at most so many units
    choices = np.zeros((len(errors), units + 1), dtype=np.int16)
    costs = [[_units(b, unit, units) for b in group] for group in bits]
    for group, (group_errors, group_costs) in enumerate(zip(errors, costs, strict=True)):
        if group_costs[0] != 0:
            raise ValueError("a group's first candidate is to cost nothing")
        after = best + group_errors[0]
        for choice in range(1, len(group_errors)):
            cost = group_costs[choice]
            if cost > units:
                continue
            error = best[: units + 1 - cost] + group_errors[choice]
            better = error < after[cost:]
            after[cost:][better] = error[better]
            choices[group, cost:][better] = choice
        best = after
    left = units
    taken = []
    for group in reversed(range(len(errors))):
        choice = int(choices[group, left])
        taken.append(choice)
        left -= costs[group][choice]
    return taken[::-1]


def _units(bits: float, unit: float, units: int) -> int:
    """Whole units that `bits` fill; one more than there are for anything beyond the budget."""
    return int(min(np.ceil(bits / unit * (1 - 1e-12)), units + 1))


def _tables(
    mean: Tensor,
    basis: Tensor,
    sizes: list[int],
    groups: list[list[Candidate]],
    budget: float,
) -> tuple[Tensor, TransformTables]:
    """The tables that `budget` bits a token buy, and the columns of the basis that are left of it:
    groups that are dropped leave it."""
    choice = allocate(
        [[way.error for way in ways] for ways in groups],
        [[way.bits for way in ways] for ways in groups],
        budget,
    )
    taken = [ways[index] for ways, index in zip(groups, choice, strict=True)]
    kept = [way.frequencies is not None for way in taken]
    coded = [way for way in taken if way.frequencies is not None]
    coded_ones = torch.tensor(kept, dtype=torch.bool).repeat_interleave(torch.tensor(sizes).long())
    columns = coded_ones.nonzero().flatten()
    frequencies = [way.frequencies for way in coded if way.frequencies is not None]
    tables = TransformTables(
        mean=mean.cpu(),
        basis=basis.cpu()[:, columns].contiguous(),
        sizes=torch.tensor(
            [size for size, keep in zip(sizes, kept, strict=True) if keep], dtype=torch.int32
        ),
        step=torch.tensor([way.step for way in coded], dtype=torch.float32),
        pull=torch.tensor([way.pull for way in coded], dtype=torch.float32),
        clip=torch.tensor([way.clip for way in coded], dtype=torch.int32),
        frequencies=torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *frequencies])),
    )
    return columns.int(), tables
