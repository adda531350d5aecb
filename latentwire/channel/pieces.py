"""A payload that may end anywhere: a head, and a stream of which every beginning means something.

    varint    length of the stream that follows
    -         head
    4         CRC-32 of all before
    -         the stream in pieces of 1020 bytes, the last as long as it is; behind each piece
              CRC-32 of length, head and the stream up to there, without the checks

So what arrived before a break is known to be right, piece by piece. (A check over checks would be
no check of what is before them: the CRC-32 of any bytes with their CRC-32 behind is one constant.)
A payload that is shorter than its length says has been cut on the way; the piece in which it ends
is left out. A sender that cuts (`joined` of a shorter stream) tells the new length, and loses none.
"""

import struct
import zlib

from latentwire.channel.codec import CodecError
from latentwire.channel.header_fields import Reader, varint

PIECE_BYTES = 1020
CHECK_BYTES = 4


def joined(head: bytes, stream: bytes) -> bytes:
    """The payload of a head and a stream."""
    out = [varint(len(stream)) + head]
    check = zlib.crc32(out[0])
    out.append(struct.pack("<I", check))
    for start in range(0, len(stream), PIECE_BYTES):
        piece = stream[start : start + PIECE_BYTES]
        check = zlib.crc32(piece, check)
        out += [piece, struct.pack("<I", check)]
    return b"".join(out)


def joined_bytes(head_bytes: int, stream_bytes: int) -> int:
    """Length of `joined`."""
    checks = 1 + -(-stream_bytes // PIECE_BYTES)
    return len(varint(stream_bytes)) + head_bytes + stream_bytes + CHECK_BYTES * checks


def stream_within(head_bytes: int, most_bytes: int) -> int | None:
    """The longest stream whose payload has at most so many bytes; None where no head fits."""
    low, high = -1, most_bytes
    while low < high:  # joined_bytes grows with each byte of the stream
        middle = (low + high + 1) // 2
        if joined_bytes(head_bytes, middle) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return None if low < 0 else low


def split(payload: bytes, head_bytes: int) -> tuple[bytes, bytes]:
    """Head, and the stream as far as it is there; CodecError for bytes that nobody joined."""
    reader = Reader(payload, 0)
    length = reader.varint()
    expected = joined_bytes(head_bytes, length)
    if len(payload) > expected:
        raise CodecError(f"the payload is {len(payload)} bytes long, its header says {expected}")
    head = reader.bytes(head_bytes)
    check = zlib.crc32(payload[: reader.place])
    if reader.bytes(CHECK_BYTES) != struct.pack("<I", check):
        raise CodecError(_WRONG)
    pieces: list[bytes] = []
    while reader.place < len(payload):
        size = min(PIECE_BYTES, length - PIECE_BYTES * len(pieces))
        if len(payload) - reader.place < size + CHECK_BYTES:
            break
        pieces.append(reader.bytes(size))
        check = zlib.crc32(pieces[-1], check)
        if reader.bytes(CHECK_BYTES) != struct.pack("<I", check):
            raise CodecError(_WRONG)
    return head, b"".join(pieces)


_WRONG = "a checksum within the payload is wrong: the packet is altered"
