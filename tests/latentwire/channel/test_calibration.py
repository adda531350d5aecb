"""The calibration file: what was written is read, and nothing else is."""

import contextlib
import hashlib
import json
import random

import numpy as np
import pytest
import torch
from calibrations import calibration_bytes
from safetensors.torch import load, save

from c2c.cache import Geometry, KVCache
from latentwire.channel.calibration import LAYER_RATES, RATES, from_bytes, to_bytes
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, PacketError, decode, encode
from latentwire.channel.registry import codec
from latentwire.errors import LatentWireError

GEOMETRY = Geometry(layers=2, kv_heads=2, head_dim=4)


def good() -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    tensors = load(calibration_bytes(GEOMETRY, (0, 1), (1,)))
    about = json.loads(bytes(tensors.pop("about").numpy()))
    return {name: value for name, value in about.items() if name != "format"}, tensors


def test_bytes_that_a_codec_has_beforehand_are_those_of_the_file() -> None:
    """Of the file's own tensors, by their names; of a layer's basis the columns that are coded."""
    _, tensors = good()
    found = from_bytes(calibration_bytes(GEOMETRY, (0, 1), (1,)), "it")

    def size(names: list[str]) -> int:
        return sum(tensors[name].numel() * tensors[name].element_size() for name in names)

    turning = size(["inverse_frequencies"])
    assert found.bytes_for("turbo2.5") == turning + size(["key_mean"])
    whole = [name for name in tensors if name.startswith(("key.2.", "value.2."))]
    assert found.bytes_for("kvtc2") == turning + size(whole)
    for codec_name, rate in (("klt1.5+zstd", "1.5"), ("planes1_klt", "3")):
        expected = turning
        for layer in ("key.layer0", "key.layer1", "value.layer1"):
            named = ("sizes", "step", "pull", "clip", "frequencies")
            coded = len(tensors[f"{layer}.{rate}.columns"])
            features = len(tensors[f"{layer}.mean"])
            expected += size([f"{layer}.mean", *(f"{layer}.{rate}.{name}" for name in named)])
            expected += 4 * coded * features
        assert found.bytes_for(codec_name) == expected


def test_what_was_written_is_read() -> None:
    about, tensors = good()
    data = to_bytes(about, tensors)
    found = from_bytes(data, "it")
    assert found.hash == hashlib.sha256(data).hexdigest()
    assert found.digest == bytes.fromhex(found.hash)[:8]
    assert found.geometry == GEOMETRY and found.layers == {"key": (0, 1), "value": (1,)}
    assert torch.equal(found.key_mean, tensors["key_mean"])
    assert set(found.tables) == {(kind, rate) for kind in ("key", "value") for rate in RATES}
    sent = (("key", 0), ("key", 1), ("value", 1))
    assert set(found.layer_tables) == {(*site, rate) for site in sent for rate in LAYER_RATES}
    assert to_bytes(about, tensors) == data  # the same content has the same hash


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("key_mean", None, "is no calibration file"),
        ("about", None, "is no calibration file"),
        ("key_mean", torch.zeros(2, 2, 4, dtype=torch.float16), "key_mean is not float32"),
        ("key_mean", torch.zeros(2, 8), "key_mean is not float32"),
        ("key_mean", torch.full((2, 2, 4), torch.nan), "NaN or infinite"),
        ("inverse_frequencies", torch.ones(3, dtype=torch.float64), "inverse_frequencies"),
        ("inverse_frequencies", torch.ones(2), "inverse_frequencies"),
        ("inverse_frequencies", torch.tensor([1, torch.nan]).double(), "NaN or infinite"),
        ("key.1.step", None, "missing or unknown parts"),
        ("key.1.mean", torch.zeros(7), "."),
        ("key.layer0.1.step", None, "missing or unknown parts"),
        ("key.layer0.1.columns", None, "columns or basis of a layer"),
        ("key.layer0.1.columns", torch.zeros(2, 2, dtype=torch.int32), "columns or basis"),
        ("key.layer0.1.columns", torch.tensor([0.0, 1.0]), "columns or basis"),
        ("key.layer0.1.columns", torch.tensor([0, 99], dtype=torch.int32), "fewer columns"),
        ("key.layer0.1.columns", torch.tensor([-1, 0], dtype=torch.int32), "fewer columns"),
        ("key.layer0.basis", torch.eye(9), "."),
        ("key.layer0.mean", None, "float32 in 1 dimension|features"),
        ("about", torch.zeros(4, dtype=torch.uint8), "is no calibration file"),
    ],
)
def test_altered_files_are_refused(name: str, tensor: torch.Tensor | None, words: str) -> None:
    about, tensors = good()
    content = load(to_bytes(about, tensors))
    if tensor is None:
        del content[name]
    else:
        content[name] = tensor
    with pytest.raises(LatentWireError, match=words):
        from_bytes(save(content), "it")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "of another format"),
        ({"key_layers": [0]}, "not of the layers that it names"),
        ({"key_layers": [1, 0]}, "does not name the layers"),
        ({"key_layers": [0, 2]}, "does not name the layers"),
        ({"key_layers": "01"}, "does not name the layers"),
        ({"value_layers": [True]}, "does not name the layers"),
    ],
)
def test_what_it_says_of_itself_is_checked(change: dict[str, object], words: str) -> None:
    about, tensors = good()
    content = load(to_bytes(about, tensors))
    text = json.dumps({**about, "format": 1, **change}).encode()
    content["about"] = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
    with pytest.raises(LatentWireError, match=words):
        from_bytes(save(content), "it")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("key_mean", torch.full((2, 2, 4), 1e38)),
        ("inverse_frequencies", torch.full((2,), -1e300, dtype=torch.float64)),
    ],
)
def test_numbers_that_would_overflow_later_are_refused(name: str, tensor: torch.Tensor) -> None:
    about, tensors = good()
    with pytest.raises(LatentWireError, match="holds numbers that are too large"):
        from_bytes(to_bytes(about, {**tensors, name: tensor}), "it")


def test_a_deeply_nested_text_is_refused() -> None:
    about, tensors = good()
    content = load(to_bytes(about, tensors))
    content["about"] = torch.full((100_000,), ord("["), dtype=torch.uint8)
    with pytest.raises(LatentWireError, match="it is no calibration file"):
        from_bytes(save(content), "it")


ODD = (torch.nan, torch.inf, -torch.inf, -1.0, 0.0, 2.0**31, 3e38, -3e38, 1e-45)
DTYPES = (torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool)


def hostile(generator: random.Random) -> bytes:
    """A calibration with some tensors of other numbers, shapes or types, or other bytes."""
    about, tensors = good()
    content = load(to_bytes(about, tensors))
    for _ in range(generator.choice((0, 1, 1, 2))):
        name = generator.choice(sorted(content))
        tensor = content[name].clone()
        match generator.randrange(4):
            case 0 if tensor.numel():
                tensor.view(-1)[generator.randrange(tensor.numel())] = (
                    generator.choice(ODD)
                    if tensor.is_floating_point()
                    else generator.choice((0, 9))
                )
            case 1:
                tensor = tensor.view(-1)[: generator.randrange(tensor.numel() + 1)].clone()
            case 2:
                tensor = tensor.to(generator.choice(DTYPES))
            case _:
                tensor = tensor.new_zeros(generator.choice(((), (0,), (0, 3), (5, 0, 2), (1,))))
        content[name] = tensor
    data = bytearray(save(content))
    for _ in range(generator.choice((0, 0, 1, 3))):
        place = generator.randrange(generator.choice((8, 400, len(data))))
        data[place] = generator.randrange(256)
    return bytes(data)


def test_any_file_is_a_calibration_or_refused() -> None:
    generator = random.Random(0)
    cache = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    layout = Layout(GEOMETRY, (0, 1), (1,), (range(2**32 - 9, 2**32 - 6),))
    read = 0
    for _ in range(200):
        try:
            found = from_bytes(hostile(generator), "it")
        except LatentWireError as error:
            assert str(error).startswith("it")
            continue
        read += 1
        for name in ("turbo2", "kvtc1", "klt2"):  # what is read can be used, or is refused then
            header = Header(codec(name, found), bytes(8), layout)
            with contextlib.suppress(PacketError):
                packet = encode(KVCache((cache,) * 2, (cache,) * 2), header)
                decode(packet, GEOMETRY, bytes(8), calibration=found)
    assert read > 25


def test_other_bytes_are_no_calibration() -> None:
    data = to_bytes(*good())
    for other in (b"", b"x" * 100, data[:-1], data[:200], b"\x80\x04\x95" + data):
        with pytest.raises(LatentWireError, match="it is no calibration file"):
            from_bytes(other, "it")
