"""What a stream that can be cut costs: its bytes at the error of separate packets, rate by rate.

    PYTHONPATH=.:C2C python benchmarks/embedded.py [--tokens 118] [--caches FILE]

A separate packet holds the first b bits of every code and the scales, without stream. FILE is what
`torch.save` wrote of [K, V], each float [layers, H, T, D]; without it the numbers are random: all
alike, and as keys of Qwen2.5, channels of unlike size with constants hundreds of times what varies.
Errors are relative to what each tensor varies. Exits with 1 where a rate takes 5 % more than alone.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from c2c.cache import Geometry, KVCache
from latentwire.channel import nested_quantizer
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import Header, around_bytes, cut, decode, encode
from latentwire.channel.registry import codec

LAYERS, HEADS, HEAD_DIM = 24, 2, 64
RATES = (1, 2, 3, 4, 6, 8)
MOST = 1.05


def random_caches(tokens: int) -> dict[str, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def tensors() -> list[Tensor]:
        shape = (LAYERS, HEADS, tokens, HEAD_DIM)
        return [torch.randn(shape, generator=generator) for _ in range(2)]

    alike, constant = tensors(), tensors()
    own = torch.randn(2, 2, LAYERS, HEADS, 1, HEAD_DIM, generator=generator)
    unlike = [(x + 300 * o[0].round()) * o[1].exp() for x, o in zip(constant, own, strict=True)]
    return {"alike": alike, "constant parts": unlike}


def error(sent: KVCache, got: KVCache, layout: Layout) -> float:
    total = 0.0
    for site in layout.sent:
        x, y = tensor_of(sent, *site), tensor_of(got, *site)
        varies = x - x.mean(2, keepdim=True)
        total += float((x - y).square().sum() / varies.square().sum())
    return total / len(layout.sent)


def separate(cache: KVCache, layout: Layout, bits: int) -> KVCache:
    """What packets of the first `bits` bits of each code bring."""
    heads, _, head_dim = layout.shape
    tensors = {}
    for site in layout.sent:
        rows = tensor_of(cache, *site).transpose(2, 3).flatten(1, 2)
        coded = nested_quantizer.quantize(rows, torch.tensor(True))
        planes = torch.full((1, heads * head_dim, 1), bits)
        whole = nested_quantizer.values(coded, planes).unflatten(1, (heads, head_dim))
        tensors[site] = whole.transpose(2, 3)
    return layout.cache(tensors)


def measure(name: str, keys: Tensor, values: Tensor) -> bool:
    """Print one cache's lines; whether all rates are within MOST."""
    layers, heads, tokens, head_dim = keys.shape
    cache = KVCache(tuple(x[None] for x in keys), tuple(x[None] for x in values))
    every = tuple(range(layers))
    layout = Layout(Geometry(layers, heads, head_dim), every, every, (range(tokens),))
    made = codec("planes8")
    header = Header(made, bytes(8), layout)
    whole, fine = encode(cache, header), True
    for bits in RATES:
        alone = around_bytes(header) + made.head_bytes(layout) + layout.elements * bits // 8
        wanted = error(cache, separate(cache, layout, bits), layout)
        low, high = 0, len(whole)  # the error falls with each byte
        while low < high:
            middle = (low + high) // 2
            ended = cut(whole, middle)
            reaches = bool(ended) and wanted >= error(
                cache, decode(ended, layout.geometry, bytes(8))[1], layout
            )
            low, high = (low, middle) if reaches else (middle + 1, high)
        fine &= low <= MOST * alone
        print(f"{name:>16} {bits:>4} {wanted:>11.6f} {alone:>10} {low:>10} {low / alone:>7.3f}")
    return fine


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--tokens", type=int, default=118)
    arguments.add_argument("--caches", type=Path)
    options = arguments.parse_args()
    if options.caches:
        caches = {options.caches.stem: torch.load(options.caches, weights_only=True)}
    else:
        caches = random_caches(options.tokens)
    print(f"{'cache':>16} {'bits':>4} {'error':>11} {'separate':>10} {'stream':>10} {'ratio':>7}")
    fine = [measure(name, *cache) for name, cache in caches.items()]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
