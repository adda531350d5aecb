"""Packets of one header as rows of one piece of memory, made and looked at on the cache's device.

A row is [header | payload | checksum]. The payload is written into place there and its checksum
taken there; one copy brings all rows to the host, where each packet is a view of its row, and one
takes them back. The payload ends at a multiple of WIDE bytes, so that one whose length is such a
multiple begins at one too, and words can be copied instead of bytes. In front of the rows stands a
word that says whether anything else is wrong, as far from the first checksum as each checksum from
the next: all of them are cleared, and looked at, in one go.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentwire.channel import checksum
from latentwire.channel.device_codec import for_device, on_host
from latentwire.channel.host_rows import Buffer, Rows, copy_rows, without
from latentwire.channel.kernels.pointer_stack import WIDE


def joined(
    header: bytes,
    shape: tuple[int, int],
    device: torch.device,
    write: Callable[[Tensor, Tensor], object],
) -> Rows | None:
    """The packets of B payloads that `write` writes into uint8 [B, bytes], `shape`, on a device;
    None where it sets the int32 [1] that it is given, too: they may not be sent."""
    batch, length = shape
    end = _up(len(header) + length)
    start, stride = end - length, _up(end + checksum.BYTES)
    memory = torch.empty(WIDE + batch * stride, dtype=torch.uint8, device=device)
    rows, marks = _laid_out(memory, batch, stride)
    marks.zero_()
    write(rows[:, start:end], marks[:1])
    there = length > 0 and checksum.on(device)
    if there:
        checksum.add(rows, start, end, header)
    arrived = on_host(memory)
    if arrived[: checksum.BYTES].any():
        return None
    found = arrived[WIDE:].reshape(batch, stride)
    begin, stop = start - len(header), end + checksum.BYTES
    found[:, begin:start] = memoryview(header)
    if not there:
        for row in found:
            row[end:stop] = memoryview(checksum.of(row[begin:end].data))
    return Rows(found[:, begin:stop])


def payloads(
    packets: Sequence[Buffer], start: int, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Of packets of one length whose first `start` bytes are the same: their payloads, uint8
    [B, bytes] on a device that takes checksums, and marks (int32 [1 + B]) that are not zero where
    checksums are wrong, but for the first, which is zero. None of others. Waits for no device."""
    size, front = len(packets[0]), bytes(packets[0][:start])
    if not isinstance(packets, Rows) and any(len(each) != size for each in packets):
        return None
    if (sent := without(packets, front)) is None:
        return None
    batch, length = len(packets), size - start - checksum.BYTES
    end = _up(length)
    place, stride = end - length, _up(end + checksum.BYTES)
    host = for_device(WIDE + batch * stride, device)
    host.numpy()[: checksum.BYTES] = 0
    rows, _ = _laid_out(host, batch, stride)
    copy_rows(sent, rows[:, place : place + size - start])
    memory = host.to(device, non_blocking=True)
    rows, marks = _laid_out(memory, batch, stride)
    checksum.add(rows, place, end, front)
    return rows[:, place:end], marks


def _laid_out(memory: Tensor, batch: int, stride: int) -> tuple[Tensor, Tensor]:
    """Of memory (uint8) the rows [B, stride], WIDE bytes behind its beginning; and its first word
    with that WIDE bytes before each row's end, where a checksum stands (int32 [1 + B])."""
    words = memory.view(torch.int32)
    return memory[WIDE:].view(batch, stride), words[:: stride // checksum.BYTES]


def _up(size: int) -> int:
    """The next multiple of WIDE."""
    return -(-size // WIDE) * WIDE
