"""Time the codecs, reference and kernels, against what the device copies.

    PYTHONPATH=.:C2C python benchmarks/codec.py [--device cuda] [--output DIR]

Three cases: one example of the 0.5B sharer (24 layers, 2 KV heads of 64), a batch of 128 of ARC-C's
length (118 tokens kept), and 10 GB of the 7B sharer (28 layers, 4 KV heads
of 128; on a CPU, 28 MB). Kernels are checked against the reference first. Times are medians, by the
device's events on CUDA; inputs are random, rotated so that no cache holds them. `% copy` counts the
bytes that the formula has to move (reads, codes and scales, writes) over the measured copy's bytes
read and written a second. Where the reference makes bytes, one tensor by one, it is timed on some
of the tensors and the time is scaled up, which the column `sample` says. Exits with 1 if a check
fails.
"""

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from c2c.triton_support import available
from latentwire.channel.asymmetric import Asymmetric
from latentwire.channel.codec import Codec
from latentwire.channel.kernels import launch
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.programs import SECTION
from latentwire.channel.kernels.room import Room
from latentwire.channel.kernels.rules import spec_of
from latentwire.channel.registry import CODECS
from latentwire.channel.rotation import Rotation

INTEGERS = [
    f"int{bits}{axis}" for axis in ("", "_layer", "_token", "_group") for bits in (8, 4, 3, 2)
]
ALL: tuple[Codec, ...] = (
    *(CODECS[name] for name in (*INTEGERS, "nf4", "mxfp4", "fp8_e4m3", "fp8_e5m2")),
    *(
        Asymmetric(f"kivi{bits}_{kind}", 200 + bits, bits, axis)
        for bits in (8, 4, 3, 2)
        for kind, axis in (("keys", "channel"), ("values", "token"))
    ),
    *(Rotation(f"rot{bits}", 200 + bits, bits) for bits in (4, 3, 2)),
)
CACHE = 120e6  # bytes that the rotated inputs exceed: more than a device's last-level cache
COPY = 2e9  # bytes of the copy on CUDA
VARIANTS = (
    {"tile": 2048},
    {"tile": 8192},
    {"tile": 2048, "warps": 2},
    {"tile": 8192, "warps": 8},
    {"steps": False},
)
ROTATED_VARIANTS = (
    {"tile": 4096, "warps": 2},
    {"tile": 2048, "warps": 1},
)
PUBLISHED = """Published, GB/s of 16-bit cache (other hardware, other codecs, as reported):
  KVTC on an H100: encode 28, decode 40
  LMCache's TurboQuant on an L20: 145 / 100 (8/4 bit), 70 / 66 (4 bit)"""


@dataclass(frozen=True)
class Case:
    name: str
    layers: int
    batch: int
    heads: int
    tokens: int
    head_dim: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.heads, self.tokens, self.head_dim

    @property
    def cache_bytes(self) -> int:
        return 2 * 2 * self.layers * self.heads * self.batch * self.tokens * self.head_dim


@dataclass(frozen=True)
class Row:
    case: str
    codec: str
    operation: str
    path: str
    milliseconds: float
    gigabytes_a_second: float  # of 16-bit cache
    percent_of_copy: float
    bound: str
    sample: str  # of what was timed, where it was not all


def cases(device: torch.device) -> list[Case]:
    large = 10e9 if device.type == "cuda" else 28e6
    tokens = int(large / (2 * 2 * 28 * 4 * 128))
    size = f"{large / 1e9:g} GB" if large >= 1e9 else f"{large / 1e6:g} MB"
    batch = 128 if device.type == "cuda" else 8
    return [
        Case("one example", 24, 1, 2, 118, 64),
        Case(f"batch {batch}", 24, batch, 2, 118, 64),
        Case(f"{size} of 7B", 28, 1, 4, tokens, 128),
    ]


def random_cache(case: Case, device: torch.device, seed: int) -> Tensor:
    """bfloat16 [2 * layers, B, H, T, D] with some larger channels, as K has them."""
    generator = torch.Generator(device).manual_seed(seed)
    room = torch.empty(2 * case.layers, *case.shape, dtype=torch.bfloat16, device=device)
    for tensor in room:
        tensor.normal_(generator=generator)
        tensor[..., ::29] *= 8
    return room


def clock(work: Callable[[int], object], device: torch.device, budget: float = 0.5) -> float:
    """Median seconds of work(i), i = 0, 1, ...; about `budget` seconds of it, at least 3 times."""
    work(0)  # compiles
    work(1)
    seconds = [once(work, 2, device)]
    for i in range(min(200, max(2, int(budget / max(seconds[0], 1e-6))))):
        seconds.append(once(work, i + 3, device))
    return statistics.median(seconds)


def once(work: Callable[[int], object], i: int, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        work(i)
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    before.record()
    work(i)
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after) / 1e3


def copy_speed(device: torch.device) -> float:
    """Bytes a second, read and written, of the device's own copy."""
    size = int(COPY if device.type == "cuda" else CACHE)
    source = torch.randint(0, 127, (size,), dtype=torch.uint8, device=device)
    sink = torch.empty_like(source)
    return 2 * size / clock(lambda _: sink.copy_(source), device)


def payload_bytes(codec: Codec, case: Case) -> int:
    size = codec.payload_bytes((case.heads, case.tokens, case.head_dim))
    return 2 * case.layers * case.batch * size


def moved_bytes(codec: Codec, case: Case, operation: str) -> int:
    """The least that an operation reads and writes: a scale over more tokens than a program holds
    costs a second read."""
    rule = spec_of(codec)
    assert rule is not None
    section = (1 << (case.tokens - 1).bit_length()) * case.head_dim
    reads = 2 if rule.over_tokens and (section > SECTION or rule.scales == "layer") else 1
    payload, values = payload_bytes(codec, case), case.cache_bytes
    return {
        "encode": reads * values + payload,
        "decode": payload + values,
        "round_trip": (reads + 1) * values,
    }[operation]


def check(codecs: list[Codec], device: torch.device) -> list[str]:
    """Where kernels and reference differ in a byte or a number, on small shapes."""
    wrong = []
    for codec in codecs:
        for head_dim in (64, 128):
            x = random_cache(Case("", 1, 3, 2, 37, head_dim), device, 1).unbind()
            if not launch.supports(codec, x[0]):
                continue
            room, broken = room_for(codec, x), torch.zeros(1, dtype=torch.int32, device=device)
            launch.encode(codec, x, room, broken, section=0)
            written = [part.cpu().numpy() for part in room.parts(codec, (2, 37, head_dim))]
            decoded = [torch.full_like(tensor, torch.nan) for tensor in x]
            launch.decode(codec, room, decoded, broken)
            arrived = launch.round_trip(codec, x)
            for n, tensor in enumerate(x):
                for b, own in enumerate(tensor.cpu()):
                    values = codec.round_trip(own[None])[0]
                    payload = b"".join(part[n, b].tobytes() for part in written)
                    good = payload == codec.encode(own) and all(
                        torch.equal(result[n][b].cpu(), values) for result in (decoded, arrived)
                    )
                    if not good:
                        wrong.append(f"{codec.name} D={head_dim} tensor {n} example {b}")
    return wrong


def room_for(codec: Codec, x: Sequence[Tensor]) -> Room:
    batch, heads, tokens, head_dim = x[0].shape
    return Room.new(codec, len(x), batch, (heads, tokens, head_dim), x[0].device)


def fused_work(
    codec: Codec, inputs: list[Tensor], tuning: dict[str, int]
) -> dict[str, Callable[[int], object]]:
    stacks = [Stack.of(room.unbind()) for room in inputs]
    rooms = [room_for(codec, stack.tensors) for stack in stacks]
    broken = torch.zeros(1, dtype=torch.int32, device=inputs[0].device)
    out = Stack.empty_like(stacks[0])

    def encode(i: int) -> None:
        at = i % len(stacks)
        launch.encode(codec, stacks[at], rooms[at], broken, **tuning)

    def decode(i: int) -> None:
        launch.decode(codec, rooms[i % len(rooms)], out, broken, **tuning)

    def round_trip(i: int) -> None:
        launch.round_trip(codec, stacks[i % len(stacks)], out, **tuning)

    for at in range(len(stacks)):
        encode(at)
    return {"encode": encode, "decode": decode, "round_trip": round_trip}


def reference_work(
    codec: Codec, case: Case, room: Tensor
) -> dict[str, tuple[Callable[[int], object], int, str]]:
    """Work, by how much its time is to be multiplied, and what it was done on."""
    tensors, shape = len(room), (case.heads, case.tokens, case.head_dim)
    few = min(tensors, max(1, int(64 / case.batch)))
    payloads = [memoryview(codec.encode(own)) for own in room[0]]

    def encode(_: int) -> None:
        for n in range(few):
            for own in room[n]:
                codec.encode(own)

    def decode(_: int) -> None:
        for _n in range(few):
            for payload in payloads:
                codec.decode(payload, shape).to(room.device, room.dtype)

    def round_trip(_: int) -> None:
        for tensor in room:
            codec.round_trip(tensor)

    if case.cache_bytes > 1e9:
        few = 1
    part = "" if few == tensors else f"{few} of {tensors} tensors"
    times = tensors // few
    return {"encode": (encode, times, part), "decode": (decode, times, part),
            "round_trip": (round_trip, 1, "")}  # fmt: skip


def bound(percent: float, moved: int, copy: float) -> str:
    """What a kernel is bound by, as far as its time says: the bytes alone take 60 % of it or more;
    or they take less than 50 us, about what launching takes; or else the arithmetic."""
    if percent >= 60:
        return "bytes"
    return "launch" if moved / copy < 50e-6 else "arithmetic"


def measure(
    case: Case,
    codecs: list[Codec],
    device: torch.device,
    copy: float,
    variants: bool,
    reference: bool,
) -> list[Row]:
    count = 1 + int(CACHE / case.cache_bytes) if case.cache_bytes < 1e9 else 1
    inputs = [random_cache(case, device, seed) for seed in range(count)]
    large = case.cache_bytes > 1e9
    rows = []

    def add(codec: Codec, operation: str, path: str, seconds: float, sample: str = "") -> None:
        moved = moved_bytes(codec, case, operation)
        percent = 100 * moved / copy / seconds
        rows.append(
            Row(
                case.name,
                codec.name,
                operation,
                path,
                seconds * 1e3,
                case.cache_bytes / seconds / 1e9,
                percent,
                bound(percent, moved, copy) if path != "reference" else "",
                sample,
            )
        )
        print(line(rows[-1]), flush=True)

    for codec in codecs:
        if device.type == "cuda" and launch.supports(codec, inputs[0][0]):
            tried: list[dict[str, int]] = [{}]
            if variants and large and codec.name in ("int8", "int4_group", "nf4"):
                tried += VARIANTS
            if variants and large and codec.name.startswith("rot"):
                tried += ROTATED_VARIANTS
            for tuning in tried:
                path = "fused " + " ".join(f"{key}={value}" for key, value in tuning.items())
                for operation, work in fused_work(codec, inputs, tuning).items():
                    add(codec, operation, path.strip(), clock(work, device, 0.2))
        if not reference:
            continue
        for operation, (work, times, part) in reference_work(codec, case, inputs[0]).items():
            if large and operation != "round_trip":
                seconds = once(work, 0, device)
            else:
                seconds = clock(work, device, 0.1)
            add(codec, operation, "reference", seconds * times, part)
    return rows


def line(row: Row) -> str:
    return (
        f"{row.case:16} {row.codec:12} {row.operation:16} {row.path:24} {row.milliseconds:11.3f}"
        f" {row.gigabytes_a_second:10.2f} {row.percent_of_copy:8.1f}  {row.bound:11}{row.sample}"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--output", type=Path, help="folder for codec.json and codec.csv")
    arguments.add_argument("--variants", action="store_true", help="other tiles, for the 10 GB")
    arguments.add_argument("--no-reference", action="store_true", help="the kernels alone")
    arguments.add_argument("--codecs", nargs="+", default=[codec.name for codec in ALL])
    arguments.add_argument("--cases", nargs="+", type=int, default=[0, 1, 2], help="by number")
    options = arguments.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    kernels = available() and device.type == "cuda"
    print(f"{name}, torch {torch.__version__}, kernels: {'yes' if kernels else 'no'}")
    codecs = [codec for codec in ALL if codec.name in options.codecs]
    wrong = check(codecs, device) if kernels else []
    if kernels:
        print("\n".join(["DIFFERENT:", *wrong]) if wrong else "check: nothing differs", flush=True)
    copy = copy_speed(device)
    print(f"copy: {copy / 1e9:.0f} GB/s, read and written\n")
    print(
        f"{'case':16} {'codec':12} {'operation':16} {'path':24} {'ms':>11} {'GB/s cache':>10}"
        f" {'% copy':>8}  {'bound':11}sample"
    )
    timer = partial(
        measure,
        codecs=codecs,
        device=device,
        copy=copy,
        variants=options.variants,
        reference=not options.no_reference,
    )
    chosen = [cases(device)[number] for number in options.cases]
    rows = [row for case in chosen for row in timer(case)]
    print(f"\n{PUBLISHED}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        facts = {"device": name, "torch": torch.__version__, "copy_bytes_a_second": copy}
        table = [asdict(row) for row in rows]
        record = facts | {"different": wrong, "rows": table}
        (options.output / "codec.json").write_text(json.dumps(record, indent=1) + "\n")
        with (options.output / "codec.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
