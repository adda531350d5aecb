"""Decoding's attention over a cache of slots: the kernel, the pass it stands for, and memory.

    PYTHONPATH=.:C2C python benchmarks/attention.py [--sweep] [--output FILE.json]

Caches of the published pair's receiver and sharer in bf16, rows as long as the published prompts.
Bytes are those of each row's own slots, read once. `--sweep` tries other shapes of the kernel.
"""

import argparse
import json
from pathlib import Path

import torch
from flops import copy_bytes
from published_lengths import LENGTHS, grid, read_sets
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from triton.testing import do_bench

import c2c.decode_step
from c2c.cache import KVCache
from c2c.decode_step import DecodePass
from c2c.slot_cache import KERNELS, ExtendPass, attend

SHAPES = {"Qwen3-0.6B": (8, 2, 128), "Qwen2.5-0.5B": (2, 7, 64)}  # KV heads, groups, head_dim
ROWS = (2048, 256, 32)
ANSWERED = 6  # tokens that a row has written: about half an answer
SWEEP = [(b, w, s) for b in (16, 32, 64, 128) for w in (1, 2, 4, 8) for s in (1, 2, 3)]


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--sweep", action="store_true", help="blocks, warps and stages")
    arguments.add_argument("--output", type=Path, help="results as JSON")
    options = arguments.parse_args()
    bandwidth = copy_bytes(torch.device("cuda"))
    print(f"{torch.cuda.get_device_name()}, copy {bandwidth / 1e12:.2f} TB/s")
    lengths = [
        len(question.token_ids)
        for asked in read_sets(LENGTHS, grid(False)[:1], 100, None)
        for question in asked.questions
    ]
    lines = []
    for name, (heads, groups, width) in SHAPES.items():
        for rows in ROWS:
            places = torch.tensor((lengths * 2)[:rows], device="cuda") + ANSWERED
            lines += measure(name, heads, groups, width, places, bandwidth, options.sweep)
    if options.output:
        options.output.write_text(json.dumps(lines, indent=1) + "\n")


def measure(
    name: str, heads: int, groups: int, width: int, places: Tensor, bandwidth: float, sweep: bool
) -> list[dict[str, object]]:
    rows, slots = len(places), -(-int(places.max() + 1) // 64) * 64
    needed = int(places.sum() + rows) * heads * width * 4  # keys and values, 2 bytes each

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    cache = KVCache((numbers(rows, heads, slots, width),), (numbers(rows, heads, slots, width),))
    query = numbers(rows, heads * groups, 1, width)
    new = numbers(rows, heads, 1, width), numbers(rows, heads, 1, width)

    class Module(torch.nn.Module):
        is_causal = True

    def by_slots() -> Tensor:
        step = ExtendPass(cache, places[:, None], slots)
        with sdpa_kernel(KERNELS):
            return attend(Module(), query, *step.update(*new, 0), None, slots=step)[0]

    def by_kernel() -> Tensor:
        step = DecodePass(cache, torch.arange(rows, device="cuda"), places)
        return step.attend(query, *step.update(*new, 0), None, None)

    difference = float((by_kernel().float() - by_slots().float()).abs().max())
    assert difference < 0.02, difference
    lines: list[dict[str, object]] = []

    def add(what: str, milliseconds: float) -> None:
        share = needed / (milliseconds / 1e3) / bandwidth
        lines.append({"shape": name, "rows": rows, "slots": slots, "how": what,
                      "ms": milliseconds, "share_of_copy": share})  # fmt: skip
        print(f"{name:<14} {rows:>5} rows {what:<24} {milliseconds:7.3f} ms {share:6.1%} of copy")

    add("a pass over slots", do_bench(by_slots, return_mode="median"))
    add("the kernel", do_bench(by_kernel, return_mode="median"))
    if sweep:
        before = c2c.decode_step.BLOCK, c2c.decode_step.WARPS, c2c.decode_step.STAGES
        found = []
        for shape in SWEEP:
            c2c.decode_step.BLOCK, c2c.decode_step.WARPS, c2c.decode_step.STAGES = shape
            found.append((do_bench(by_kernel, warmup=5, rep=20, return_mode="median"), shape))
        c2c.decode_step.BLOCK, c2c.decode_step.WARPS, c2c.decode_step.STAGES = before
        for milliseconds, (block, warps, stages) in sorted(found)[:6]:
            add(f"{block} slots, {warps} warps, {stages}", milliseconds)
    return lines


if __name__ == "__main__":
    main()
