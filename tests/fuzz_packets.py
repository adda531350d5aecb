"""Throw hostile packets at the decoder: each must give a cache or one PacketError.

    PYTHONPATH=.:C2C python tests/fuzz_packets.py --count 1000000 [--seed 0] [--output DIR]

Half are packets of every codec (schedules, lossless stages and calibrated codecs too) with bytes
changed, inserted, deleted, repeated and spliced, more often in the header than elsewhere; half are
built from the format's grammar (`packet_grammar`). Nearly all get a right checksum, or nothing but
the checksum would be tested. The receiver has the right calibration, none, another, or another one
that calls itself the right one. `describe` must refuse what `decode` refuses. No packet may take
more than a second of CPU or 256 MiB. What breaks a rule is written to DIR, and the exit status is
1.
"""

import argparse
import collections
import random
import re
import resource
import signal
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import torch
from calibrations import make_calibration
from packet_grammar import build, sealed

from c2c.cache import Geometry, KVCache
from latentwire.channel.calibration import Calibration
from latentwire.channel.describe import describe
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.packet import (
    CUT_VERSION,
    Header,
    PacketError,
    decode,
    decode_header,
    encode,
    encode_header,
)
from latentwire.channel.pieces import split
from latentwire.channel.planes import Planes
from latentwire.channel.registry import CALIBRATED, EXAMPLES, NAMES, codec

GEOMETRY = Geometry(layers=3, kv_heads=2, head_dim=6)
IDENTITY = b"the pair"
LAYOUT = Layout(GEOMETRY, (0, 2), (1, 2), (range(4, 7),))
MOST_TOKENS = 4096
MOST_SECONDS = 1  # of CPU
MOST_GROWTH_BYTES = 256 << 20  # of resident memory, over all packets
MOST_PACKET_BYTES = 256 << 20  # of memory beside what the process has at its start
MOST_DESCRIBED = 1 << 20  # numbers: `describe` allows more than fit in the limits here
_CALIBRATED = {codec(name).number for name in CALIBRATED}
NUMBERS = re.compile(r"\b[0-9a-f]*\d[0-9a-f]*\b|(# )+#|\(#?,? ?#?\)")  # of no interest in a count
EDGES = (0, 1, 2, 7, 8, 127, 128, 129, 254, 255)


@dataclass
class Outcome:
    """What became of the packets thrown."""

    thrown: int = 0
    decoded: int = 0
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_ms: float = 0.0


class TooSlow(BaseException):
    """Not an Exception, so that nothing on the way can catch it."""


def calibrations() -> list[Calibration | None]:
    """What a receiver may have: the right one mostly."""
    right = make_calibration(GEOMETRY, LAYOUT.key_layers, LAYOUT.value_layers)
    layers = make_calibration(GEOMETRY, (0, 1), (2,))
    wider = make_calibration(Geometry(3, 2, 8), LAYOUT.key_layers, LAYOUT.value_layers)
    posing = [replace(other, hash=right.hash) for other in (layers, wider)]
    return [*[right] * 12, None, layers, *posing]


def corpus() -> list[bytes]:
    """A packet of every codec."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, *LAYOUT.shape)
    keys, values = (
        tuple(torch.randn(shape, generator=generator) for _ in range(GEOMETRY.layers))
        for _ in range(2)
    )
    calibration = make_calibration(GEOMETRY, LAYOUT.key_layers, LAYOUT.value_layers)
    return [
        encode(KVCache(keys, values), Header(codec(name, calibration), IDENTITY, LAYOUT))
        for name in (*NAMES, *EXAMPLES, "turbo2+zstd")
    ]


def mutate(packet: bytes, others: list[bytes], generator: random.Random) -> bytes:
    """A packet with one to six changes, and mostly right checksums."""
    data, seams = unsealed(packet)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 6))):
        # The variable part of the header, all of it, or anywhere.
        stop = generator.choice((48, 48, len(data)))
        place = generator.randrange(4, max(5, min(stop, len(data))))
        length = generator.choice((1, 1, 2, 4, 8))
        match generator.randrange(8):
            case 0:
                data[place : place + 1] = generator.randbytes(1)
            case 1 if place < len(data):
                data[place] ^= 1 << generator.randrange(8)
            case 2:
                data[place : place + 1] = bytes([generator.choice(EDGES)])
            case 3:
                data[place:place] = generator.randbytes(length)
            case 4:
                del data[place : place + length]
            case 5:
                data[place:place] = data[place : place + length]
            case 6:
                data[place:] = generator.choice(others)[place:-4]
            case _:
                data[place : place + 4] = struct.pack("<f", generator.choice((0, -1, 3e38, 1e-45)))
    if seams:
        return sealed(
            bytes(data[: seams[0]]), bytes(data[slice(*seams)]), bytes(data[seams[1] :]), generator
        )
    if generator.random() < 0.02:
        return bytes(data) + packet[-4:]
    return bytes(data) + struct.pack("<I", zlib.crc32(data))


def unsealed(packet: bytes) -> tuple[bytearray, list[int]]:
    """A packet without its checksums; in version 3, where its header and its payload's head end."""
    if packet[4] != CUT_VERSION:
        return bytearray(packet[:-4]), []
    header, start = decode_header(packet, calibrations()[0])
    assert isinstance(header.codec, Planes)
    head, stream = split(packet[start:], header.codec.head_bytes(header.layout))
    return bytearray(packet[: start - 4] + head + stream), [start - 4, start - 4 + len(head)]


def throw(packet: bytes, outcome: Outcome, calibration: Calibration | None) -> None:
    """Decode one packet; AssertionError (or whatever came out) when a rule is broken."""
    outcome.thrown += 1
    began = time.perf_counter()
    try:
        header, cache = decode(
            packet, GEOMETRY, IDENTITY, calibration=calibration, most_tokens=MOST_TOKENS
        )
    except PacketError as error:
        assert type(error) is PacketError and str(error)
        outcome.refused[NUMBERS.sub("#", str(error))[:70]] += 1
        check_described(packet, is_decoded=False)
    else:
        outcome.decoded += 1
        assert packet.startswith(encode_header(header)), "a header has one spelling only"
        assert header.layout.tokens <= MOST_TOKENS
        for kind, layer in header.layout.sent:
            tensor = tensor_of(cache, kind, layer)
            assert tensor.shape == (1, *header.layout.shape_of(layer))
            assert bool(torch.isfinite(tensor).all()), "a number that is none"
        check_described(packet, is_decoded=True)
    outcome.slowest_ms = max(outcome.slowest_ms, 1000 * (time.perf_counter() - began))


def check_described(packet: bytes, is_decoded: bool) -> None:
    """`describe` refuses what `decode` refuses for the packet's own reasons, and nothing else."""
    try:
        header, _ = decode_header(packet)
    except PacketError:
        header = None
    if header is not None and header.layout.elements > MOST_DESCRIBED:
        return
    try:
        text = describe(packet)
    except PacketError:
        assert not is_decoded, "a packet that is decoded is not described"
        return
    assert header is not None
    assert text.replace("\n", "").isprintable()
    layout, numbers = header.layout, {header.codec.number, packet_codec(header)}
    ours = layout.geometry == GEOMETRY and header.identity == IDENTITY
    if ours and layout.tokens <= MOST_TOKENS and not numbers & _CALIBRATED:
        assert is_decoded, "a packet that is not decoded is described"


def packet_codec(header: Header) -> int:
    """The codec behind a lossless stage."""
    return int(getattr(header.codec, "inner", header.codec).number)


def fuzz(count: int, seed: int, most_seconds: float = 0.0) -> Iterator[tuple[bytes, Outcome]]:
    """Throw `count` packets; yields each with the outcome so far, before it is thrown.

    Each may take `most_seconds` of CPU (0: as many as it will) before SIGPROF is raised, which the
    caller handles.
    """
    generator = random.Random(seed)
    packets, known = corpus(), calibrations()
    digests = [found.digest for found in known if found is not None]
    outcome = Outcome()
    for packet in packets:
        throw(packet, outcome, known[0])
    assert outcome.decoded == len(packets), "an unchanged packet was refused"
    for _ in range(count):
        if generator.random() < 0.5:
            packet = mutate(generator.choice(packets), packets, generator)
        else:
            packet = build(LAYOUT, IDENTITY, digests, generator)
        yield packet, outcome
        signal.setitimer(signal.ITIMER_PROF, most_seconds)
        throw(packet, outcome, generator.choice(known))
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--count", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--output", type=Path, default=Path("outputs/fuzz"))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, _too_slow)
    for _ in fuzz(200, options.seed):  # what is loaded once is no packet's
        pass
    limit = _virtual_bytes() + MOST_PACKET_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    before = _resident_bytes()
    began = time.perf_counter()
    packet, outcome = b"", Outcome()
    try:
        for packet, outcome in fuzz(options.count, options.seed, MOST_SECONDS):  # noqa: B007
            if outcome.thrown % 50_000 == 0:
                print(f"{outcome.thrown} thrown, {outcome.decoded} decoded", flush=True)
                grown = _resident_bytes() - before
                assert grown < MOST_GROWTH_BYTES, f"memory grew by {grown} bytes"
    except (Exception, TooSlow) as error:
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{zlib.crc32(packet):08x}.lwkv"
        path.write_bytes(packet)
        print(f"broken by {path}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - began
    print(
        f"{outcome.thrown} packets in {seconds:.0f} s: {outcome.decoded} decoded,"
        f" {outcome.refused.total()} refused in {len(outcome.refused)} ways, no other outcome;"
        f" slowest {outcome.slowest_ms:.0f} ms,"
        f" {(_resident_bytes() - before) / 2**20:.0f} MiB grown"
    )
    for words, times in outcome.refused.most_common():
        print(f"{times:>9}  {words}")
    return 0


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"took longer than {MOST_SECONDS} s of CPU")


def _virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
