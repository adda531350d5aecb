"""The search for schedules: bits by tensor (K or V of a layer), by what each one's bits cost.

What bits cost is measured on training questions, tensor by tensor, and costs of several tensors are
taken to add up: so of all schedules of as many bits the one that costs least is found exactly, by
dynamic programming over the bits spent (AdaQuant, Hubara et al. 2020, arXiv:2006.10518, solves the
same problem as an integer program). Tensors are of one size, so equal bits are equal bytes.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations, groupby, product

from latentwire.channel.layout import Site
from latentwire.channel.registry import INTEGER_BITS

Bits = Mapping[Site, int]  # of each tensor
Costs = Mapping[int, Mapping[Site, float]]  # bits -> tensor -> what it costs to send it in them
PROTECTED_LAYERS = (2, 4, 8)  # the last ones, as the published study protected them


def search(costs: Costs, mean_bits: int) -> dict[Site, int]:
    """Bits of each tensor, at most `mean_bits` in the mean over tensors, that cost least."""
    sites = sorted(costs[min(costs)])
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}  # by bits spent
    for site in sites:
        found: dict[int, tuple[float, tuple[int, ...]]] = {}
        for spent, (cost, chosen) in best.items():
            for bits in costs:
                step = cost + costs[bits][site], (*chosen, bits)
                if spent + bits <= mean_bits * len(sites):
                    found[spent + bits] = min(step, found.get(spent + bits, step))
        best = found
    _, chosen = min(best.values())
    return dict(zip(sites, chosen, strict=True))


def rivals(costs: Costs, mean_bits: int) -> list[dict[Site, int]]:
    """What a search is held against, at no more bits in the mean: the same bits for all tensors,
    then the last layers protected, each way that there are bits for."""
    sites = sorted(costs[min(costs)])
    layers = sorted({layer for _, layer in sites})
    found = [dict.fromkeys(sites, base_bits(mean_bits))]
    for count, (few, more) in product(PROTECTED_LAYERS, combinations(sorted(costs), 2)):
        each = {site: more if site[1] in layers[-count:] else few for site in sites}
        if sum(each.values()) <= mean_bits * len(sites) and each not in found:
            found.append(each)
    return found


def base_bits(mean_bits: int) -> int:
    """The most bits that all tensors can have."""
    return max(bits for bits in INTEGER_BITS if bits <= mean_bits)


def spelled(bits: Bits, base: int) -> str:
    """The schedule's name, such as `int4/0-3:int8/keys7:int2`: what is named first has `base`
    bits."""
    by_layer: dict[int, dict[str, int]] = {}
    for (kind, layer), grade in sorted(bits.items()):
        by_layer.setdefault(layer, {})[f"{kind}s"] = grade
    alike = {layer: {*grades.values()} for layer, grades in by_layer.items()}
    told = [
        {"": next(iter(alike[layer]))} if len(alike[layer]) == 1 else by_layer[layer]
        for layer in by_layer
    ]
    parts = [
        f"{kinds}{ends}:int{grade}"
        for kinds in ("", "keys", "values")
        for ends, grade in _runs(list(by_layer), [each.get(kinds) for each in told])
        if grade != base
    ]
    return "/".join([f"int{base}", *parts])


def _runs(layers: list[int], grades: list[int | None]) -> Iterator[tuple[str, int]]:
    """Stretches of neighbouring layers of one grade, each by its ends; layers of none have part in
    no stretch."""
    numbered = zip(layers, grades, strict=True)
    for grade, run in groupby(numbered, key=lambda each: each[1]):
        first, *rest = (layer for layer, _ in run)
        if grade is not None:
            yield (f"{first}-{rest[-1]}" if rest else str(first)), grade
