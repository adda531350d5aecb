"""The search for schedules: bits by layer, by what each layer loses on training questions.

What layer l loses in b bits is the norm of the error over the norm, of its K and of its V, mean
over questions. Every layer begins with the fewest bits; then the layer that wins most a bit by its
next step on the lower convex hull takes it, as long as the mean over layers allows.
"""

from collections.abc import Sequence
from itertools import groupby

import torch

from c2c.cache import tokens_at
from latentwire.channel.allocation import share_lost
from latentwire.channel.layout import tensor_of
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.positions import Positions
from latentwire.channel.registry import INTEGER_BITS, codec
from latentwire.errors import LatentWireError
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import read_as_sharer
from latentwire.evaluation.reading import sharers_text
from latentwire.evaluation.unanswerable import readable
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question

Losses = dict[int, dict[int, float]]  # bits -> sharer layer -> what it loses


@torch.inference_mode()
def losses(pair: LoadedPair, questions: Sequence[Question]) -> Losses:
    """What every layer that is read loses in each number of bits. LatentWireError where no question
    can be read."""
    found: dict[int, dict[int, list[float]]] = {bits: {} for bits in INTEGER_BITS}
    for question in readable(pair, questions):
        text = sharers_text(pair.interface, question)
        cache = tokens_at(read_as_sharer(pair, text), [text.sent])
        header = pair.endpoint.header(Channel("bf16"), Positions.of(text.sent))
        if header is None:
            raise LatentWireError("the pair's interface reads no layer, so none needs bits")
        real = torch.ones(1, cache.tokens, dtype=torch.bool, device=cache.keys[0].device)
        for bits in INTEGER_BITS:
            tensors = codec(f"int{bits}")
            assert isinstance(tensors, PerTensor)
            arrived, _ = tensors.round_trip(cache, [header.layout])
            lost = [
                share_lost(tensor_of(cache, *site), tensor_of(arrived, *site), real)
                for site in header.layout.sites
            ]
            shares = torch.cat(lost).tolist()  # the one wait for the device
            for (_, layer), share in zip(header.layout.sites, shares, strict=True):
                found[bits].setdefault(layer, []).append(share)
    return {
        bits: {layer: sum(each) / len(each) for layer, each in layers.items()}
        for bits, layers in found.items()
    }


def search(lost: Losses, mean_bits: int) -> dict[int, int]:
    """Bits of each layer, at most `mean_bits` in the mean over layers."""
    grades = sorted(lost)
    layers = sorted(lost[grades[0]])
    bits = dict.fromkeys(layers, grades[0])
    left = (mean_bits - grades[0]) * len(layers)
    while steps := [
        ((lost[bits[layer]][layer] - lost[to][layer]) / (to - bits[layer]), -layer, to)
        for layer in layers
        for to in grades
        if 0 < to - bits[layer] <= left
    ]:
        won, layer, to = max(steps)
        if won <= 0:
            break
        left -= to - bits[-layer]
        bits[-layer] = to
    return bits


def spelled(bits: dict[int, int], base: int) -> str:
    """The schedule's name: `int4/0-3:int8/7:int2`. What is named first has at most `base` bits."""
    base = max(grade for grade in INTEGER_BITS if grade <= base)
    parts = [f"int{base}"]
    numbered = enumerate(sorted(bits))
    for (grade, _), run in groupby(numbered, key=lambda each: (bits[each[1]], each[1] - each[0])):
        layers = [layer for _, layer in run]
        if grade != base:
            ends = f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else str(layers[0])
            parts.append(f"{ends}:int{grade}")
    return "/".join(parts)
