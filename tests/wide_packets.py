"""More packets whose bytes may never change: heads of 64 and 128 channels, as models have them,
tokens in several runs, a prompt that does not begin its conversation, and layers that are not sent.
Heads of 32 channels stand for tokens that differ by layer.

`golden/64/NAME.bin` and so on; `numbers.json` holds the sha256 of what arrives, by
codec (float32, tensor after tensor). Codecs with a calibration have none there: what they compute
with cosines and matrices may round otherwise elsewhere. `golden_packets` makes what is missing.
"""

import hashlib
import json
import random
import re
from functools import lru_cache
from pathlib import Path

import torch
from calibrations import calibration_bytes
from golden_packets import ALL as NARROW
from golden_packets import CALIBRATIONS, FOLDER, IDENTITY, by_layer, with_classes

from c2c.cache import Geometry, KVCache
from latentwire.channel.calibration import Calibration, from_bytes
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import Header, decode, encode
from latentwire.channel.registry import codec, needs_calibration

RANK = 2  # of the calibration's transforms, which keeps it small
LAYOUTS = {
    width: Layout(
        Geometry(layers, heads, width),
        (0, 3),
        (2,),
        (range(2, 4), range(5, 6), range(300, 302)),
        first_position,
    )
    for width, layers, heads, first_position in ((64, 4, 2, 77), (128, 10, 1, 70_000))
}
LAYOUTS[32] = Layout(
    Geometry(5, 2, 32),
    (0, 3, 4),
    (2, 3),
    (range(2, 5), range(300, 302)),
    77,
    ((range(2, 5), range(301, 302)), (), (range(3, 4), range(300, 302)), (), (range(4, 5),)),
)
BY_LAYER = (
    *("fp16", "int4", "kivi2+zstd", "turbo2.5", "klt2", "planes3", "planes1_klt"),
    "int4_group/2:nf4/values:rotate2.5+lzma",
)
ALL = (*NARROW, "fp16+lzma", "fp32+zstd", "kivi2+zstd", "int4_group/2:nf4/values:rotate2.5+lzma")
CASES = [(width, name) for width in LAYOUTS for name in (BY_LAYER if width == 32 else ALL)]


def folder(width: int) -> Path:
    return FOLDER / str(width)


def packet_file(width: int, name: str) -> Path:
    """Where the packet with heads of `width` channels and codec `name` lies."""
    return folder(width) / f"{re.sub('[/:+]', '-', name)}.bin"


def calibration_file(width: int, name: str) -> Path:
    return folder(width) / CALIBRATIONS[by_layer(name)]


def calibration(width: int, name: str) -> Calibration | None:
    """What the packet of codec `name` was coded with."""
    return _read(calibration_file(width, name)) if needs_calibration(name) else None


@lru_cache
def _read(path: Path) -> Calibration:
    return from_bytes(path.read_bytes(), str(path))


def header(width: int, name: str) -> Header:
    layout = with_classes(name, LAYOUTS[width])
    return Header(codec(name, calibration(width, name)), IDENTITY, layout)


@lru_cache
def sent(width: int) -> KVCache:
    """What went in: sums of uniform numbers, which every Python draws alike; each channel of a size
    of its own."""
    generator = random.Random(width)
    layout = LAYOUTS[width]
    sizes = [10 ** generator.uniform(-2, 1.5) for _ in range(width)]

    def tensor(layer: int) -> torch.Tensor:
        rows = layout.geometry.kv_heads * layout.tokens
        numbers = [
            size * (generator.random() + generator.random() - 1)
            for _ in range(rows)
            for size in sizes
        ]
        whole = torch.tensor(numbers, dtype=torch.float64).float()
        shape = (1, layout.geometry.kv_heads, layout.tokens, width)
        return whole.view(shape)[:, :, : layout.tokens_of(layer)]

    layers = range(layout.geometry.layers)
    return KVCache(tuple(map(tensor, layers)), tuple(map(tensor, layers)))


def arrived(width: int, name: str, data: bytes) -> list[torch.Tensor]:
    """What a packet's tensors hold, in its order."""
    own = calibration(width, name)
    _, cache = decode(data, LAYOUTS[width].geometry, IDENTITY, calibration=own)
    return [tensor_of(cache, *site)[0] for site in LAYOUTS[width].sent]


def hash_of(tensors: list[torch.Tensor]) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update((tensor + 0.0).numpy().astype("<f4").tobytes())  # a zero has no sign
    return whole.hexdigest()


def numbers(width: int) -> dict[str, str]:
    """The hash of what arrives, by codec."""
    path = folder(width) / "numbers.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def files(name: str) -> list[Path]:
    """Where the packets called `name` lie."""
    return [packet_file(width, name) for width in LAYOUTS]


def write_missing() -> list[str]:
    """Make the packets that are missing; their names."""
    made = []
    for width, layout in LAYOUTS.items():
        folder(width).mkdir(parents=True, exist_ok=True)
        sent_layers = layout.key_layers, layout.value_layers
        for layers, file in CALIBRATIONS.items():
            if not (folder(width) / file).exists():
                data = calibration_bytes(layout.geometry, *sent_layers, rank=RANK, by_layer=layers)
                (folder(width) / file).write_bytes(data)
        known = numbers(width)
        for name in (name for at, name in CASES if at == width):
            path = packet_file(width, name)
            if not path.exists():
                data = encode(sent(width), header(width, name))
                if not needs_calibration(name):
                    known[name] = hash_of(arrived(width, name, data))
                path.write_bytes(data)
                made.append(f"{width}/{name}")
        (folder(width) / "numbers.json").write_text(json.dumps(known, indent=1) + "\n")
    return made
