"""Packets whose bytes may never change, one for every codec.

``PYTHONPATH=. python tests/golden_packets.py`` makes those of tests/latentwire/channel/golden that
are not there yet, and leaves the others alone: a packet that version 1 wrote once stays readable,
and is written so again. `NAME.bin` is a packet with codec NAME; `NAME.npz` holds what went in
(`sent_key_0`, ...) and what must come out (`arrived_key_0`, ...) of each layer that is sent,
float32 [H, T, D].

The caches are the same for all codecs: small random numbers, with one large channel, one head of
zeros, and one layer of a single constant.
"""

from pathlib import Path

import numpy as np
import torch

from c2c.cache import Geometry, KVCache
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, decode, encode
from latentwire.channel.registry import TENSORWISE, codec

FOLDER = Path(__file__).parent / "latentwire" / "channel" / "golden"
GEOMETRY = Geometry(layers=9, kv_heads=2, head_dim=5)  # nine layers: masks of two bytes
IDENTITY = bytes.fromhex("0123456789abcdef")
KEY_LAYERS, VALUE_LAYERS = (0, 8), (3,)
RUN = range(130, 133)  # 130 needs two bytes


def golden_header(name: str) -> Header:
    """The header of the packet called `name`."""
    return Header(codec(name), IDENTITY, Layout(GEOMETRY, KEY_LAYERS, VALUE_LAYERS, (RUN,)))


def golden_names() -> list[str]:
    """The packets that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.bin"))


def read_golden(name: str) -> tuple[bytes, KVCache, KVCache]:
    """A packet, the cache that went in, and the one that must come out (NaN where unsent)."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        unsent = torch.full((1, 2, len(RUN), 5), torch.nan)

        def cache(end: str) -> KVCache:
            tensors = {kind: [unsent] * GEOMETRY.layers for kind in ("key", "value")}
            for kind, layers in (("key", KEY_LAYERS), ("value", VALUE_LAYERS)):
                for layer in layers:
                    tensors[kind][layer] = torch.from_numpy(arrays[f"{end}_{kind}_{layer}"])[None]
            return KVCache(tuple(tensors["key"]), tuple(tensors["value"]))

        return (FOLDER / f"{name}.bin").read_bytes(), cache("sent"), cache("arrived")


def write_missing() -> list[str]:
    """Make the golden packets that are missing; their names."""
    made = [name for name in TENSORWISE if name not in golden_names()]
    generator = torch.Generator().manual_seed(0)
    sent = {}
    for kind, layers in (("key", KEY_LAYERS), ("value", VALUE_LAYERS)):
        for layer in layers:
            tensor = torch.randn(2, len(RUN), 5, generator=generator)
            tensor[:, :, 3] *= 50
            sent[kind, layer] = tensor
    sent["key", 8][1] = 0
    sent["value", 3][:] = -0.375
    empty = torch.zeros(1, 2, len(RUN), 5)
    cache = KVCache(
        tuple(sent["key", n][None] if ("key", n) in sent else empty for n in range(9)),
        tuple(sent["value", n][None] if ("value", n) in sent else empty for n in range(9)),
    )
    FOLDER.mkdir(exist_ok=True)
    for name in made:
        packet = encode(cache, golden_header(name))
        (FOLDER / f"{name}.bin").write_bytes(packet)
        _, arrived = decode(packet, GEOMETRY, IDENTITY)
        arrays = {f"sent_{kind}_{n}": tensor.numpy() for (kind, n), tensor in sent.items()}
        arrays |= {f"arrived_key_{n}": arrived.keys[n][0].numpy() for n in KEY_LAYERS}
        arrays |= {f"arrived_value_{n}": arrived.values[n][0].numpy() for n in VALUE_LAYERS}
        np.savez(FOLDER / f"{name}.npz", **arrays)
    return made


if __name__ == "__main__":
    print("made:", ", ".join(write_missing()) or "nothing, all are there")
