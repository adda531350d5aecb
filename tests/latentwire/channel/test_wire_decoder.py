"""docs/WIRE.md decodes everything: a reader written from it alone gives the same numbers."""

import ast
import hashlib
from dataclasses import replace
from pathlib import Path

import golden_packets
import numpy as np
import pytest
import torch
import wide_packets
import wire_decoder
from any_layouts import differing
from calibrations import calibration_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from c2c.cache import Geometry, KVCache
from latentwire.channel.calibration import from_bytes
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import Header, decode, encode
from latentwire.channel.registry import EXAMPLES, NAMES, codec, needs_calibration
from latentwire.channel.text_codec import encode_text

# What cosines and matrices are in may round otherwise elsewhere.
CALIBRATED = {"rtol": 1e-5, "atol": 1e-5}
GEOMETRY = Geometry(3, 2, 6)
CALIBRATION = calibration_bytes(GEOMETRY, (0, 2), (1,))
STAGES = ("fp16+lzma", "fp32+zstd", "int3+lzma", "kivi2+zstd", "turbo2+zstd", "turbo1.5+lzma")
SCHEDULES = ("int2/keys:fp8_e5m2/0:mxfp4", "rotate2.5/last1:bf16/values:kivi3+zstd", "int4/0:int4")
ALL = (*NAMES, *EXAMPLES, *STAGES, *SCHEDULES)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:8]


def same(name: str, found: np.ndarray, expected: torch.Tensor) -> None:
    if needs_calibration(name):
        np.testing.assert_allclose(found, expected.numpy(), **CALIBRATED)
    else:
        assert np.array_equal(found, expected.numpy())


def test_the_reader_uses_nothing_of_ours() -> None:
    tree = ast.parse(Path(wire_decoder.__file__).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    standard = {"json", "lzma", "struct", "zlib", "dataclasses", "math", "typing"}
    assert found == standard | {"numpy", "zstandard"}


@pytest.mark.parametrize("name", golden_packets.ALL)
def test_it_reads_golden_packets(name: str) -> None:
    data, _, arrived = golden_packets.read_golden(name)
    file = golden_packets.calibration_file(name).read_bytes()
    packet = wire_decoder.read(data, wire_decoder.read_calibration(file, digest(file)))
    assert packet.identity == golden_packets.IDENTITY
    assert packet.positions == list(golden_packets.RUN)
    assert packet.sent == [("key", 0), ("key", 8), ("value", 3)]
    for (kind, layer), tensor in packet.tensors.items():
        same(name, tensor, tensor_of(arrived, kind, layer)[0])


@pytest.mark.parametrize(("width", "name"), wide_packets.CASES)
def test_it_reads_wide_packets(width: int, name: str) -> None:
    data = wide_packets.packet_file(width, name).read_bytes()
    file = wide_packets.calibration_file(width, name).read_bytes()
    packet = wire_decoder.read(data, wire_decoder.read_calibration(file, digest(file)))
    layout = wide_packets.LAYOUTS[width]
    assert packet.positions == replace(layout, by_layer=()).positions().tolist()
    assert packet.sent == list(layout.sent)
    ours = wide_packets.arrived(width, name, data)
    for (kind, layer), expected in zip(packet.sent, ours, strict=True):
        same(name, packet.tensors[kind, layer], expected)


@st.composite
def layouts(draw: st.DrawFn, name: str) -> Layout:
    """Any geometry and set of layers; of a calibrated codec, the calibration's."""
    runs, end = [], 0
    for number in range(draw(st.integers(1, 3))):
        start = end + draw(st.integers(1 if number else 0, 300))
        end = start + draw(st.integers(1, 4))
        runs.append(range(start, end))
    first = draw(st.integers(0, 10_000))
    if needs_calibration(name):
        layout = Layout(GEOMETRY, (0, 2), (1,), tuple(runs), first)
        return layout if name.startswith("kvtc") else draw(differing(layout))
    layers = draw(st.integers(1, 9))
    subset = st.sets(st.integers(0, layers - 1)).map(lambda chosen: tuple(sorted(chosen)))
    geometry = Geometry(layers, draw(st.integers(1, 3)), draw(st.integers(1, 70)))
    layout = Layout(geometry, draw(subset), draw(subset), tuple(runs), first)
    if not name.startswith("tokens:"):
        return draw(differing(layout))
    classes = st.lists(st.integers(0, 2), min_size=layout.tokens, max_size=layout.tokens)
    return replace(layout, classes=bytes(draw(classes)))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 1000), scale=st.sampled_from((1.0, 1e-5, 1e3)))
def test_it_reads_any_packet(name: str, data: st.DataObject, seed: int, scale: float) -> None:
    layout = data.draw(layouts(name))
    generator = torch.Generator().manual_seed(seed)
    layers = range(layout.geometry.layers)
    keys, values = (
        tuple(
            scale * torch.randn(1, *layout.shape_of(layer), generator=generator) for layer in layers
        )
        for _ in range(2)
    )
    calibration = from_bytes(CALIBRATION, "it") if needs_calibration(name) else None
    packet = encode(KVCache(keys, values), Header(codec(name, calibration), bytes(8), layout))
    own = wire_decoder.read_calibration(CALIBRATION, digest(CALIBRATION))
    found = wire_decoder.read(packet, own)
    for layer, positions in found.by_layer.items():
        assert positions == layout.positions(layer).tolist()
    assert set(found.tensors) == set(layout.sent)
    _, arrived = decode(packet, layout.geometry, bytes(8), calibration=calibration)
    for (kind, layer), tensor in found.tensors.items():
        same(name, tensor, tensor_of(arrived, kind, layer)[0])


def test_it_reads_texts() -> None:
    for text in ("", "a", "Der Reiher lebt im Norden. " * 30):
        assert wire_decoder.read_text(encode_text(text, "utf8"), zstd=False) == text
        assert wire_decoder.read_text(encode_text(text, "utf8+zstd"), zstd=True) == text
