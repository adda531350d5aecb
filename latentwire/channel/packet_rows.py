"""Packets of one header as rows of one piece of memory, made and looked at on the cache's device.

A row is [header | payload | checksum]. The payload is written into place there and its checksum
taken there; one copy brings all rows to the host, where each packet is a view of its row, and one
takes them back. The payload ends at a multiple of WIDE bytes, so that one whose length is such a
multiple begins at one too, and words can be copied instead of bytes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentwire.channel import checksum
from latentwire.channel.device_codec import on_device, on_host
from latentwire.channel.kernels.pointer_stack import WIDE

Buffer = bytes | memoryview


def joined(
    header: bytes,
    shape: tuple[int, int],
    device: torch.device,
    write: Callable[[Tensor], Tensor],
) -> list[memoryview] | None:
    """The packets of B payloads that `write` writes into uint8 [B, bytes], `shape`, on a device;
    None where it doubts (bool []) that they can be sent. All are views of one piece of memory."""
    batch, length = shape
    end = _up(len(header) + length)
    start, stride = end - length, _up(end + checksum.BYTES)
    memory = torch.empty(batch * stride + WIDE, dtype=torch.uint8, device=device)
    rows = memory[:-WIDE].view(batch, stride)
    memory[-1:].copy_(write(rows[:, start:end]))  # behind the rows, so that one copy brings both
    there = length > 0 and checksum.on(device)
    if there:
        rows[:, end : end + checksum.BYTES] = 0
        checksum.add(rows, start, end, header)
    arrived = on_host(memory)
    if arrived[-1]:
        return None
    found = arrived[:-WIDE].reshape(batch, stride)
    begin, stop = start - len(header), end + checksum.BYTES
    found[:, begin:start] = memoryview(header)
    if not there:
        for row in found:
            row[end:stop] = memoryview(checksum.of(row[begin:end].data))
    return [row.data.toreadonly() for row in found[:, begin:stop]]


def payloads(packets: Sequence[Buffer], start: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of packets of one length whose bytes before `start` are the same: their payloads, uint8
    [B, bytes] on a device that takes checksums, and whether one of the checksums is wrong (bool
    []). Waits for no device."""
    length = len(packets[0]) - start - checksum.BYTES
    end = _up(length)
    sent = [memoryview(each)[start:] for each in packets]
    rows = on_device(sent, device, end - length, _up(end + checksum.BYTES))
    checksum.add(rows, end - length, end, bytes(packets[0][:start]))
    wrong = rows.view(torch.int32)[:, end // checksum.BYTES].any()
    return rows[:, end - length : end], wrong


def _up(size: int) -> int:
    """The next multiple of WIDE."""
    return -(-size // WIDE) * WIDE
