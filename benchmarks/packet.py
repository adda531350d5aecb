"""Time packets of every fixed-rate codec, `kvtc` and `klt`, both ways, against what device and host
copy.

    PYTHONPATH=.:C2C python benchmarks/packet.py [--device cuda] [--output FILE.json]

The sharer of 0.5B: 24 layers, 2 KV heads of 64, 128 tokens, bfloat16 on the device. One prompt:
milliseconds from the cache to a packet's bytes and back to a cache, checksum and checks of a
hostile packet with it, beside the same tensor by tensor (`alone`), and launches, counted: kernels
and copies by the profiler on CUDA, operations of torch on a CPU. A batch of 128: GB/s of 16-bit
cache and the share of what copying alone would need (the floor: reading the cache and writing the
payload, or the reverse, at the device's measured copy, and the packets' bytes at the host's); and
beside it, on the device alone, without the host's bytes. Bytes and numbers are compared with
`alone` first; exits with 1 where one differs. Times are medians; of several `--passes` over all
codecs, for machines that others use too, the best median.

`kvtc2` and `klt2` have a calibration that is fitted to as random numbers first: nearly all
components are coded. Their packets are compared with a CPU's, byte by byte, and their numbers with
what a CPU decodes, to 2^-22 of a tensor's largest; a number within float64's rounding of where two
codes meet would be said to differ. Below their rows are the seconds of a batch by part: transform
and entropy coder, with the streams' way to the host and back.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from codec import copy_speed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from c2c.cache import Geometry, KVCache
from latentwire.channel import stream_batch, transform
from latentwire.channel.batch_codec import BatchCodec
from latentwire.channel.calibration import Calibration
from latentwire.channel.device_codec import DeviceCodec, cast, on_device, on_host
from latentwire.channel.kvtc import KVTC
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import Header, decode, encode, encode_batch
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.registry import PER_TENSOR, codec
from latentwire.channel.transform_fit import fit_rates
from latentwire.evaluation.device_timer import now_s

GEOMETRY = Geometry(24, 2, 64)
IDENTITY = b"the pair"
COMPOSED = ("turbo2", "turbo2.5", "int4/last2:bf16", "tokens:int8:int4")
TRANSFORMED = ("kvtc2", "klt2")
RATE = 2.0  # bits a number, of those
SEED = 0
FITTED = "00" * 32  # stands for the hash of the calibration's file


@dataclass(frozen=True)
class Row:
    codec: str
    ratio: float  # of the 16-bit cache to the packet
    encode_ms: float  # one prompt
    decode_ms: float
    encode_alone_ms: float | None  # tensor by tensor; None where a codec is not by tensor
    decode_alone_ms: float | None
    encode_launches: int
    decode_launches: int
    batch_encode_gb_s: float  # of 16-bit cache, from there to packets
    batch_decode_gb_s: float
    batch_encode_floor_ms: float
    batch_encode_floor_percent: float  # of the time taken
    batch_decode_floor_percent: float
    device_encode_percent: float | None  # of the device's copy, without the host's bytes
    device_decode_percent: float | None  # None of a codec that makes no payload on the device alone


@dataclass(frozen=True)
class Speeds:
    """Bytes a second: the device's copy, read and written, and copies to the host and back."""

    device: float
    to_host: float
    from_host: float


def seconds_of(work: Callable[[], object], device: torch.device, budget: float) -> float:
    """Median seconds of `work`, host and device; about `budget` seconds of it, at least twice. A
    fifth of that goes before and does not count: memory is asked for then, and clocks rise."""
    work()
    warm = time.perf_counter() + budget / 5
    while time.perf_counter() < warm:
        work()
    taken: list[float] = []
    while len(taken) < 2 or (sum(taken) < budget and len(taken) < 50):
        began = now_s(device)
        work()
        taken.append(now_s(device) - began)
    return statistics.median(taken)


class _Operations(TorchDispatchMode):
    """Counts what torch is asked to compute: views and new memory aside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += not function.is_view and "empty" not in function.name()
        return function(*args, **(kwargs or {}))


def launches(work: Callable[[], object], device: torch.device) -> int:
    if device.type != "cuda":
        with _Operations() as counted:
            work()
        return counted.count
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        work()
        torch.cuda.synchronize()
    events = profiled.events() or []
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in events)


def measured_speeds(device: torch.device, size: int) -> Speeds:
    there = torch.ones(size, dtype=torch.uint8, device=device)
    data = memoryview(bytes(size))
    to_host = seconds_of(lambda: on_host(there), device, 0.2)
    from_host = seconds_of(lambda: on_device([data], device), device, 0.2)
    if device.type != "cuda":  # nothing has to cross
        return Speeds(copy_speed(device), float("inf"), float("inf"))
    return Speeds(copy_speed(device), size / to_host, size / from_host)


def random_cache(
    batch: int, tokens: int, device: torch.device, geometry: Geometry = GEOMETRY
) -> KVCache:
    generator = torch.Generator(device).manual_seed(SEED)
    shape = (2 * geometry.layers, batch, geometry.kv_heads, tokens, geometry.head_dim)
    room = torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(generator=generator)
    room[..., ::29] *= 8  # some channels are larger, as in K
    tensors = room.unbind()
    return KVCache(tensors[: geometry.layers], tensors[geometry.layers :])


def calibration(
    transforms: bool, device: torch.device, geometry: Geometry = GEOMETRY
) -> Calibration:
    """What `turbo` needs: means and frequencies; with `transforms` also what `kvtc2` and `klt2` do,
    all layers' tables of one fit."""
    layers = tuple(range(geometry.layers))
    half = geometry.head_dim // 2
    mean = torch.randn(
        geometry.layers,
        geometry.kv_heads,
        geometry.head_dim,
        generator=torch.Generator().manual_seed(SEED),
    )
    frequencies = 1e6 ** -(torch.arange(half, dtype=torch.float64) / half)
    known = {"key": layers, "value": layers}
    tables, by_layer = {}, {}
    if transforms:
        width = geometry.width
        cache = random_cache(1, (geometry.layers * width) * 5 // 4, device, geometry)
        x = torch.cat([tensor[0].transpose(0, 1).flatten(1) for tensor in cache.keys], 1).float()
        (whole,), (one,) = fit_rates(x, [RATE]), fit_rates(x[:, :width], [RATE])
        tables = {(kind, RATE): whole for kind in known}
        by_layer = {(kind, layer, RATE): one for kind in known for layer in layers}
    return Calibration(FITTED, {}, geometry, mean, frequencies, known, tables, by_layer)


def differs(header: Header, cache: KVCache, device: torch.device) -> bool:
    """Whether packets of a batch differ from those tensor by tensor, or numbers from the path
    without bytes."""
    made, layout, known = header.codec, header.layout, header_calibration(header)
    packets = encode_batch(cache, header)
    if isinstance(made, BatchCodec):
        same = packets == encode_batch(cache.map(Tensor.cpu), header)
        return not (same and near(packets, header, device))
    _, arrived = decode(packets, GEOMETRY, IDENTITY, torch.bfloat16, known, device=device)
    direct, _ = made.round_trip(cache, [layout] * len(packets))
    same = all(
        torch.equal(tensor_of(arrived, *site), tensor_of(direct, *site)) for site in layout.sent
    )
    if isinstance(made, PerTensor):
        for row, packet in enumerate(packets):
            alone = bytes(made.encode_alone(cache.rows(row, row + 1), layout))
            same &= packet[-4 - len(alone) : -4] == alone
    return not same


def near(packets: list[bytes], header: Header, device: torch.device) -> bool:
    """Whether a device decodes what a CPU does, but for rounding."""
    known = GEOMETRY, IDENTITY, torch.float32, header_calibration(header)
    both = device, torch.device("cpu")
    found, expected = (decode(packets, *known, device=each)[1] for each in both)
    return all(
        bool(((one.cpu() - other).abs() <= 2.0**-22 * other.abs().max()).all())
        for one, other in zip(
            (*found.keys, *found.values), (*expected.keys, *expected.values), strict=True
        )
    )


def parts(made: KVTC, cache: KVCache, layout: Layout, budget: float) -> str:
    """Milliseconds of a batch's transform and entropy coder, one after the other."""
    device, rows = cache.keys[0].device, len(cache.keys[0])
    sites = made.blocks(layout)
    tables = [made.tables(block, layout) for block in sites]
    blocks = [stream_batch.Block(each, layout.tokens) for each in tables]
    stacks = [torch.stack([tensor_of(cache, *site) for site in block]) for block in sites]
    x = [made.vectors_of(*each, layout) for each in zip(stacks, sites, strict=True)]
    codes = [transform.codes(each, own) for each, own in zip(tables, x, strict=True)]
    streams = stream_batch.encode(blocks, codes)
    work: dict[str, Callable[[], object]] = {
        "transform": lambda: list(map(transform.codes, tables, x)),
        "entropy coder": lambda: stream_batch.encode(blocks, codes),
        "decoder": lambda: stream_batch.decode(blocks, streams, device),
        "inverse transform": lambda: list(map(transform.numbers, tables, codes)),
    }
    symbols = sum(each.numel() for each in codes)
    told = ", ".join(
        f"{name} {1e3 * seconds_of(each, device, budget):.1f} ms" for name, each in work.items()
    )
    return f"  of {rows}: {symbols / 1e6:.1f} million symbols; {told}"


def alone_ms(
    header: Header, cache: KVCache, device: torch.device, budget: float
) -> tuple[float | None, float | None]:
    """The payload tensor by tensor, and back into bfloat16 on the device."""
    made, layout = header.codec, header.layout
    if not isinstance(made, PerTensor):
        return None, None
    payload = memoryview(made.encode_alone(cache, layout))
    back = lambda: cast(made.decode_alone(payload, layout), layout, torch.bfloat16, device)  # noqa: E731
    return (
        1e3 * seconds_of(lambda: made.encode_alone(cache, layout), device, budget),
        1e3 * seconds_of(back, device, budget),
    )


def measure(header: Header, one: KVCache, many: KVCache, speeds: Speeds, budget: float) -> Row:
    made, layout, device = header.codec, header.layout, one.keys[0].device
    known = (GEOMETRY, IDENTITY, torch.bfloat16, header_calibration(header))
    packet, packets = encode(one, header), encode_batch(many, header)

    def clock(work: Callable[[], object]) -> float:
        return seconds_of(work, device, budget)

    there = clock(lambda: encode(one, header))
    back = clock(lambda: decode(packet, *known, device=device))
    all_there = clock(lambda: encode_batch(many, header))
    all_back = clock(lambda: decode(packets, *known, device=device))
    on_there = on_back = None
    if isinstance(made, DeviceCodec):
        payloads: Tensor = made.payloads(many, layout)
        on_there = clock(lambda: made.payloads(many, layout))
        on_back = clock(lambda: made.caches(payloads, layout, torch.bfloat16))
    cache_bytes = 2 * layout.elements * len(packets)
    wire_bytes = len(packet) * len(packets)
    moved = (cache_bytes + wire_bytes) / speeds.device
    floor, back_floor = moved + wire_bytes / speeds.to_host, moved + wire_bytes / speeds.from_host
    return Row(
        made.name,
        2 * layout.elements / len(packet),
        1e3 * there,
        1e3 * back,
        *alone_ms(header, one, device, budget),
        launches(lambda: encode(one, header), device),
        launches(lambda: decode(packet, *known, device=device), device),
        cache_bytes / all_there / 1e9,
        cache_bytes / all_back / 1e9,
        1e3 * floor,
        100 * floor / all_there,
        100 * back_floor / all_back,
        100 * moved / on_there if on_there else None,
        100 * moved / on_back if on_back else None,
    )


def header_calibration(header: Header) -> Calibration | None:
    return getattr(header.codec, "calibration", None)


def quietest(passes: list[Row]) -> Row:
    """Of each number the best of several passes: what others do on a machine betters none."""
    found = asdict(passes[0])
    for row in passes[1:]:
        for name, number in asdict(row).items():
            if name.endswith(("_gb_s", "_percent")) and number is not None:
                found[name] = max(found[name], number)
            elif name.endswith("_ms") and number is not None:
                found[name] = min(found[name], number)
    return Row(**found)


HEADINGS = (
    f"{'codec':18} {'ratio':>6} {'encode ms':>9} {'decode ms':>9} {'alone':>7} {'alone':>7}"
    f" {'launches':>9} {'batch GB/s':>13} {'% of floor':>11} {'device % copy':>13}"
)


def line(row: Row) -> str:
    alone = [
        "-" if each is None else f"{each:.2f}"
        for each in (row.encode_alone_ms, row.decode_alone_ms)
    ]
    alone_there = [
        "-" if each is None else f"{each:.1f}"
        for each in (row.device_encode_percent, row.device_decode_percent)
    ]
    return (
        f"{row.codec:18} {row.ratio:6.2f} {row.encode_ms:9.3f} {row.decode_ms:9.3f}"
        f" {alone[0]:>7} {alone[1]:>7} {row.encode_launches:4} {row.decode_launches:4}"
        f" {row.batch_encode_gb_s:6.2f} {row.batch_decode_gb_s:6.2f}"
        f" {row.batch_encode_floor_percent:5.1f} {row.batch_decode_floor_percent:5.1f}"
        f" {alone_there[0]:>6} {alone_there[1]:>6}"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--output", type=Path, help="a JSON file")
    arguments.add_argument("--codecs", nargs="+", default=[*PER_TENSOR, *COMPOSED, *TRANSFORMED])
    arguments.add_argument("--tokens", type=int, default=128)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--budget", type=float, default=0.05, help="seconds of each work")
    arguments.add_argument("--passes", type=int, default=1, help="of all; the best counts")
    options = arguments.parse_args()
    began, device = time.perf_counter(), torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    speeds = measured_speeds(device, 2 * 10**8 if device.type == "cuda" else 10**7)
    print(
        f"{name}, torch {torch.__version__}; copies: device {speeds.device / 1e9:.0f} GB/s read and"
        f" written, to the host {speeds.to_host / 1e9:.1f}, back {speeds.from_host / 1e9:.1f}"
    )
    print(HEADINGS, flush=True)
    all_layers = tuple(range(GEOMETRY.layers))
    classes = bytes(token % 2 for token in range(options.tokens))
    many = random_cache(options.batch, options.tokens, device)
    known = calibration(any(name in TRANSFORMED for name in options.codecs), device)
    one, few = many.rows(0, 1), many.rows(0, 2)
    headers = {}
    for asked in options.codecs:
        layout = Layout(
            GEOMETRY,
            all_layers,
            all_layers,
            (range(options.tokens),),
            classes=classes if asked.startswith("tokens") else b"",
        )
        headers[asked] = Header(codec(asked, known), IDENTITY, layout)
    wrong = [asked for asked, header in headers.items() if differs(header, few, device)]
    passes: dict[str, list[Row]] = {asked: [] for asked in headers}
    for _ in range(options.passes):
        for asked, header in headers.items():
            passes[asked].append(measure(header, one, many, speeds, options.budget))
            print(line(passes[asked][-1]), flush=True)
            if isinstance(header.codec, KVTC):
                print(parts(header.codec, many, header.layout, options.budget), flush=True)
    rows = [quietest(each) for each in passes.values()]
    if options.passes > 1:
        print("\n".join(["the best of each:", *map(line, rows)]))
    print("DIFFERENT: " + ", ".join(wrong) if wrong else "nothing differs")
    facts = {"device": name, "torch": torch.__version__, "tokens": options.tokens}
    facts |= {"passes": options.passes}
    facts |= {"batch": options.batch, "seconds": time.perf_counter() - began, "different": wrong}
    if options.output:
        record = facts | {"copies_bytes_a_second": asdict(speeds), "rows": list(map(asdict, rows))}
        options.output.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
