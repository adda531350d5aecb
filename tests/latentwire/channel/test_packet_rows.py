"""Packets that a device makes and looks at are the host's, and so is what is said of wrong ones."""

import random
import struct
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from calibrations import make_calibration
from torch import Tensor

from c2c.cache import Geometry, KVCache
from latentwire.channel import checksum, device_codec, host_rows, packet, packet_rows
from latentwire.channel.host_rows import Buffer, Rows
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import Header, PacketError, decode, encode, encode_batch
from latentwire.channel.registry import codec

GEOMETRY = Geometry(layers=3, kv_heads=2, head_dim=6)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2))
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2), (range(2, 5), range(8, 10)))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NAMES = ("bf16", "int8", "int3", "kivi2", "turbo1.5", "int4/1:bf16", "tokens:int8:int4")

kernels_run = pytest.mark.skipif(
    not checksum.on(DEVICE), reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1"
)


def header(name: str) -> Header:
    layout = LAYOUT
    if name.startswith("tokens"):
        layout = Layout(GEOMETRY, (0, 2), (1, 2), LAYOUT.runs, classes=bytes((0, 1, 1, 1, 0)))
    return Header(codec(name, CALIBRATION if "turbo" in name else None), b"the pair", layout)


def cache(batch: int = 3, seed: int = 0) -> KVCache:
    generator = torch.Generator().manual_seed(seed)
    shape = batch, 2, LAYOUT.tokens, 6
    x = [torch.randn(shape, generator=generator).to(DEVICE, torch.bfloat16) for _ in range(6)]
    return KVCache(tuple(x[:3]), tuple(x[3:]))


def read(packets: Buffer | Sequence[Buffer], device: torch.device = DEVICE) -> KVCache:
    return decode(
        packets, GEOMETRY, b"the pair", calibration=CALIBRATION, device=device
    )[1]  # fmt: skip


def in_one_buffer(packets: Sequence[Buffer]) -> Rows:
    return Rows(np.stack([np.frombuffer(each, np.uint8) for each in packets]))


def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there are no kernels."""
    monkeypatch.setattr(checksum, "on", lambda device: False)


@pytest.mark.parametrize("length", [20, host_rows.SHORT])
def test_rows_go_to_a_device_as_bytes_lie(length: int) -> None:
    rows = [random.Random(row).randbytes(length) for row in range(7)]
    found = device_codec.on_device(rows, DEVICE)
    assert [bytes(row.tolist()) for row in found] == rows


def test_rows_of_one_buffer_are_as_any_others() -> None:
    memory = np.random.default_rng(0).integers(0, 256, (5, 40), dtype=np.uint8)
    rows, plain = Rows(memory[:, 3:23]), [row[3:23].tobytes() for row in memory]
    assert len(rows) == 5 and rows == plain and rows[1:3] == plain[1:3] and rows[-1] == plain[-1]
    assert rows != plain[:4] and rows != 5 and isinstance(rows[1:3], Rows)
    with pytest.raises(TypeError):
        rows[0][0] = 1
    memory.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = device_codec.on_device(rows, DEVICE)
    assert [bytes(row.tolist()) for row in found] == plain
    memory.flags.writeable = True
    memory[:, 3:5] = (7, 9)
    for each in (rows, [*rows]):
        assert host_rows.without(each, bytes((7, 9))) == [row[2:] for row in rows]
        assert host_rows.without(each, bytes((7, 8))) is None
    memory[4, 4] = 8
    assert host_rows.without(rows, bytes((7, 9))) is None


@pytest.mark.parametrize("length", [0, 1, 3, 16, 21, 64])
@pytest.mark.parametrize("front", [1, 37, 48])
def test_a_packet_is_header_payload_and_checksum(length: int, front: int) -> None:
    generator = random.Random(length)
    first, rows = generator.randbytes(front), [generator.randbytes(length) for _ in range(3)]
    sent = torch.tensor([list(row) for row in rows], dtype=torch.uint8, device=DEVICE)

    def write(out: Tensor, broken: Tensor) -> None:
        assert length % 16 or not out.numel() or out.data_ptr() % 16 == 0
        out.copy_(sent)
        assert broken.tolist() == [0]

    found = packet_rows.joined(first, (3, length), DEVICE, write)
    whole = [first + row for row in rows]
    assert found == [each + struct.pack("<I", zlib.crc32(each)) for each in whole]
    assert found is not None and all(each.readonly for each in found)


@pytest.mark.parametrize("length", [0, 5])
def test_a_doubt_makes_no_packets(length: int) -> None:
    assert packet_rows.joined(b"front", (2, length), DEVICE, lambda _, it: it.fill_(1)) is None


@kernels_run
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("apart", [False, True])
def test_both_ways_make_and_read_the_same(
    name: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, numbers = header(name), cache()
    packets = encode_batch(numbers, own)
    assert encode(numbers.rows(1, 2), own) == packets[1]
    if apart:
        packets = [bytes(each) for each in packets]
    at_once = packet._at_once
    found = []
    monkeypatch.setattr(packet, "_at_once", lambda *told: found.append(at_once(*told)) or found[-1])
    arrived = read(packets)
    assert found and found[0]  # nothing had to be looked at one by one
    on_the_host(monkeypatch)
    assert packets == encode_batch(numbers, own)
    alone = read(packets)
    for site in own.layout.sent:
        assert torch.equal(tensor_of(arrived, *site), tensor_of(alone, *site))


@kernels_run
@pytest.mark.parametrize("name", NAMES)
def test_wrong_packets_are_refused_in_the_same_words(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, own = random.Random(name), header(name)
    good = [bytes(each) for each in encode_batch(cache(), own)]
    other = bytes(encode(cache(1), header("bf16" if name != "bf16" else "int8")))
    body = bytearray(good[1])
    batches: list[list[Buffer]] = [
        [good[0], other, good[2]],
        [good[0], good[1][:-1]],
        [good[0], b""],
        [b"", good[0]],
    ]
    for turn in range(12):
        body[:] = good[1]
        # Of the header, the payload and the checksum.
        place = (generator.randrange(40), generator.randrange(len(body)), len(body) - 2)[turn % 3]
        body[place] ^= 1 << generator.randrange(8)
        again = bytes(body[:-4]) + struct.pack("<I", zlib.crc32(body[:-4]))
        batches += [[good[0], bytes(body), good[2]], [bytes(body)], [good[0], again], [again]]

    batches += [in_one_buffer(each) for each in batches if len({*map(len, each)}) == 1]

    def said(packets: Sequence[Buffer]) -> object:
        try:
            found = read(packets)
            return [x.cpu() for x in (*found.keys, *found.values)]
        except PacketError as error:
            return str(error)

    ours = [said(batch) for batch in batches]
    on_the_host(monkeypatch)
    for told, batch in zip(ours, batches, strict=True):
        expected = said(batch)
        if isinstance(told, list) and isinstance(expected, list):
            assert all(
                torch.equal(a.nan_to_num(), b.nan_to_num())
                for a, b in zip(told, expected, strict=True)
            )
        else:
            assert told == expected
    assert sum(isinstance(told, str) for told in ours) > 18


def test_packets_may_be_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch gives is read as it is, one packet or several."""
    own = header("int4")
    packets = encode_batch(cache(), own)
    assert all(len(each) == len(packets[0]) for each in packets)
    one, all_of_them = read(memoryview(packets[1])), read(packets)
    for site in own.layout.sent:
        assert torch.equal(tensor_of(one, *site)[0], tensor_of(all_of_them, *site)[1])
    assert decode(bytearray(packets[0]), GEOMETRY, b"the pair")[0].layout == own.layout
