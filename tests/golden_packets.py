"""Packets whose bytes may never change, one for every codec.

``PYTHONPATH=.:C2C python tests/golden_packets.py`` makes those of tests/latentwire/channel/golden
that are not there yet, and leaves the others alone: a packet that version 1 wrote once stays
readable, and is written so again. A codec that is still being made is named behind it, and its
packets are made anew. `NAME.bin` is a packet with codec NAME; `NAME.npz` holds what
went in (`sent_key_0`, ...) and what must come out (`arrived_key_0`, ...) of each layer that is
sent, float32 [H, T, D].

The caches are the same for all codecs: small random numbers, with one large channel, one head of
zeros, and one layer of a single constant. See `wide_packets` for wider heads
and several runs.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from calibrations import calibration_bytes

from c2c.cache import Geometry, KVCache
from latentwire.channel.calibration import Calibration, from_bytes
from latentwire.channel.codec_names import BY_TOKEN
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, decode, encode
from latentwire.channel.registry import EXAMPLES, NAMES, codec, needs_calibration

FOLDER = Path(__file__).parent / "latentwire" / "channel" / "golden"
# The first was made before there were transforms of one layer; packets name a calibration's hash.
CALIBRATIONS = {False: "calibration.safetensors", True: "calibration_by_layer.safetensors"}
IDENTITY = bytes.fromhex("0123456789abcdef")
KEY_LAYERS, VALUE_LAYERS = (0, 8), (3,)
RUN = range(130, 133)  # 130 needs two bytes
ALL = (*NAMES, *EXAMPLES, "turbo2+zstd")


def golden_geometry(name: str) -> Geometry:
    """Nine layers: masks of two bytes. A calibrated codec needs an even head_dim."""
    return Geometry(layers=9, kv_heads=2, head_dim=6 if needs_calibration(name) else 5)


def calibration_file(name: str) -> Path:
    """The calibration of the packet called `name`."""
    return FOLDER / CALIBRATIONS[by_layer(name)]


def by_layer(name: str) -> bool:
    """Whether the codec called `name` has a transform for each layer."""
    return "klt" in name


def golden_calibration(name: str) -> Calibration | None:
    """What the packet called `name` was coded with."""
    if not needs_calibration(name):
        return None
    file = calibration_file(name)
    return from_bytes(file.read_bytes(), str(file))


def golden_header(name: str) -> Header:
    """The header of the packet called `name`."""
    layout = Layout(golden_geometry(name), KEY_LAYERS, VALUE_LAYERS, (RUN,))
    layout = with_classes(name, layout)
    return Header(codec(name, golden_calibration(name)), IDENTITY, layout)


def with_classes(name: str, layout: Layout) -> Layout:
    """Its tokens in three classes, in turn, where the codec called `name` has classes."""
    of_tokens = bytes(place % 3 for place in range(layout.tokens))
    return replace(layout, classes=of_tokens) if name.startswith(BY_TOKEN) else layout


def golden_file(name: str) -> Path:
    """Where the packet called `name` lies; beside it, as .npz, the numbers."""
    return FOLDER / f"{re.sub('[/:+]', '-', name)}.bin"


def read_golden(name: str) -> tuple[bytes, KVCache, KVCache]:
    """A packet, the cache that went in, and the one that must come out (NaN where unsent)."""
    geometry = golden_geometry(name)
    with np.load(golden_file(name).with_suffix(".npz")) as arrays:
        unsent = torch.full((1, 2, len(RUN), geometry.head_dim), torch.nan)

        def cache(end: str) -> KVCache:
            tensors = {kind: [unsent] * geometry.layers for kind in ("key", "value")}
            for kind, layers in (("key", KEY_LAYERS), ("value", VALUE_LAYERS)):
                for layer in layers:
                    tensors[kind][layer] = torch.from_numpy(arrays[f"{end}_{kind}_{layer}"])[None]
            return KVCache(tuple(tensors["key"]), tuple(tensors["value"]))

        return golden_file(name).read_bytes(), cache("sent"), cache("arrived")


def write_missing() -> list[str]:
    """Make the golden packets that are missing; their names."""
    made = [name for name in ALL if not golden_file(name).exists()]
    FOLDER.mkdir(exist_ok=True)
    for layers, file in CALIBRATIONS.items():
        if not (FOLDER / file).exists():
            data = calibration_bytes(Geometry(9, 2, 6), KEY_LAYERS, VALUE_LAYERS, by_layer=layers)
            (FOLDER / file).write_bytes(data)
    for name in made:
        geometry = golden_geometry(name)
        sent = _numbers(geometry.head_dim)
        empty = torch.zeros(1, 2, len(RUN), geometry.head_dim)
        cache = KVCache(
            tuple(sent["key", n][None] if ("key", n) in sent else empty for n in range(9)),
            tuple(sent["value", n][None] if ("value", n) in sent else empty for n in range(9)),
        )
        packet = encode(cache, golden_header(name))
        _, arrived = decode(packet, geometry, IDENTITY, calibration=golden_calibration(name))
        arrays = {f"sent_{kind}_{n}": tensor.numpy() for (kind, n), tensor in sent.items()}
        arrays |= {f"arrived_key_{n}": arrived.keys[n][0].numpy() for n in KEY_LAYERS}
        arrays |= {f"arrived_value_{n}": arrived.values[n][0].numpy() for n in VALUE_LAYERS}
        np.savez(golden_file(name).with_suffix(".npz"), **arrays)
        golden_file(name).write_bytes(packet)  # last: a codec that fails on the way leaves none
    return made


def _numbers(head_dim: int) -> dict[tuple[str, int], torch.Tensor]:
    """Numbers with an outlier channel, a head of zeros and a constant tensor."""
    generator = torch.Generator().manual_seed(0)
    sent = {}
    for kind, layers in (("key", KEY_LAYERS), ("value", VALUE_LAYERS)):
        for layer in layers:
            tensor = torch.randn(2, len(RUN), head_dim, generator=generator)
            tensor[:, :, 3] *= 50
            sent[kind, layer] = tensor
    sent["key", 8][1] = 0
    sent["value", 3][:] = -0.375
    return sent


if __name__ == "__main__":
    import wide_packets

    for name in sys.argv[1:]:
        for path in (golden_file(name), *wide_packets.files(name)):
            path.unlink(missing_ok=True)
    made = [*write_missing(), *wide_packets.write_missing()]
    print("made:", ", ".join(made) or "nothing, all are there")
