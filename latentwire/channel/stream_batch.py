"""Range-coded streams of a whole batch, of codes where the cache is.

Bytes and codes are those of `transform.encode_codes` and `decode_codes`, which code one stream
after the other on the host, with Python's lock held. On a GPU each stream is a program of its own
(`kernels/range_kernels.py`): as many go side by side as there are, each slower than on the host.
Who needs no bytes asks for `lengths`, which take less: they follow from how likely codes are alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from c2c.on_device import on_device
from c2c.triton_support import kernels_run
from latentwire.channel.codec import CodecError
from latentwire.channel.device_codec import on_host
from latentwire.channel.range_stream import SYMBOL_BITS, WORD_BYTES
from latentwire.channel.transform import (
    TransformTables,
    check_length,
    decode_codes,
    encode_codes,
)

FEW = 4  # streams that the host has coded before a GPU has one of them
UNROLL = 8  # symbols that the encoder's inner loop codes
Stream = bytes | memoryview


@dataclass(frozen=True)
class Block:
    """What each example has one stream of: codes [T, R] of one transform."""

    tables: TransformTables
    tokens: int  # T

    @property
    def symbols(self) -> int:
        """Of one stream."""
        return self.tokens * self.tables.components

    def order(self) -> tuple[Tensor, Tensor]:
        """Begin and step [R] of each component: its code of token t is number begin + t step of the
        stream. Groups one after the other, within a group tokens, within a token components."""
        sizes = self.tables.sizes.long()
        size = sizes.repeat_interleave(sizes)
        first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # of the component's group
        return self.tokens * first + torch.arange(self.tables.components) - first, size


def encode(blocks: Sequence[Block], codes: Sequence[Tensor]) -> list[list[Stream]]:
    """Of each block the stream of every example, of codes [B, T, R] (int16, within their clips)
    that lie on one device."""
    if not blocks or not _there(len(blocks) * len(codes[0]), codes[0]):
        return [
            [encode_codes(block.tables, row.int()) for row in own.cpu()]
            for block, own in zip(blocks, codes, strict=True)
        ]
    rows, device = len(codes[0]), codes[0].device
    tables = [block.tables for block in blocks]
    groups, lefts = _groups(tables), _lefts(tables)
    starts = np.cumsum([0, *(block.symbols for block in blocks for _ in range(rows))])
    symbols = torch.empty(int(starts[-1]), dtype=torch.int32, device=device)
    orders = zip(*(block.order() for block in blocks), strict=True)
    told = torch.stack([torch.cat(_zeros(blocks, groups)), *map(torch.cat, orders)])
    each = on_device(told, device).split([block.tables.components for block in blocks], 1)
    for number, (block, own) in enumerate(zip(blocks, codes, strict=True)):
        start = int(starts[rows * number])
        into = symbols[start : start + rows * block.symbols].view(rows, block.symbols)
        zero, begin, step = each[number]
        token = torch.arange(block.tokens, device=device)[:, None]
        into.index_copy_(1, (begin + token * step).flatten(), (own + zero.int()).flatten(1))
    most = max(block.symbols for block in blocks)
    room = most * SYMBOL_BITS // (8 * WORD_BYTES) + 4  # with the word that means nothing
    count = rows * len(blocks)
    out = torch.empty(count, room, dtype=torch.int32, device=device)
    lengths = torch.empty(count, dtype=torch.int32, device=device)
    from latentwire.channel.kernels import range_kernels

    with torch.cuda.device_of(symbols):  # Triton launches on the current device
        range_kernels.encode[(count,)](
            symbols, on_device(torch.from_numpy(starts), device), on_device(lefts, device), out,
            lengths, room, UNROLL=UNROLL, num_warps=1,
        )  # fmt: skip
    sizes = lengths.tolist()
    longest = -(-max(sizes) // WORD_BYTES)
    highest_first = _swapped(out[:, 1 : 1 + longest].contiguous().view(torch.uint8))
    streams: list[Stream] = [
        memoryview(row[:size]) for row, size in zip(on_host(highest_first), sizes, strict=True)
    ]
    return [streams[begin : begin + rows] for begin in range(0, count, rows)]


def lengths(tables: Sequence[TransformTables], codes: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """How many bytes the stream of each block and example is, int32 [N, B], without the streams;
    waits for no device where kernels run.

    `codes` [B, T, R] of each of N blocks (int16, of one device, T of each block) hold as many
    `tokens` (int64 [N, B], on that device) of each example, from the first on. The others, and all
    of an example of no tokens, are not looked at; all else lies within its clips.
    """
    device = tokens.device
    if not _there(tokens.numel(), tokens):
        counts = tokens.tolist()
        found = [
            [_length(each, row[:count]) for row, count in zip(own.cpu(), rows, strict=True)]
            for each, own, rows in zip(tables, codes, counts, strict=True)
        ]
        return torch.tensor(found, dtype=torch.int32).view(tokens.shape)
    about, first, start = [], 0, 0
    for each, own in zip(tables, codes, strict=True):
        behind = first + len(each.sizes)
        begins = start + own[0].numel() * np.arange(len(own))
        same = np.tile([first, behind, each.components], (len(own), 1))
        about.append(np.column_stack([same, begins]))
        first, start = behind, start + own.numel()
    told = on_device(torch.from_numpy(np.concatenate(about)), device)
    streams = torch.cat([tokens.view(-1, 1), told], 1)
    whole = torch.cat([own.flatten() for own in codes])
    sizes = torch.empty(tokens.shape, dtype=torch.int32, device=device)
    from latentwire.channel.kernels import range_kernels

    with torch.cuda.device_of(whole):
        range_kernels.measure[(tokens.numel(),)](
            whole, streams, on_device(_groups(tables), device),
            on_device(_lefts(tables), device), sizes, UNROLL=UNROLL, num_warps=1,
        )  # fmt: skip
    return sizes


def _length(tables: TransformTables, codes: Tensor) -> int:
    return len(encode_codes(tables, codes.int())) if len(codes) else 0


def decode(
    blocks: Sequence[Block], streams: Sequence[Sequence[Stream]], device: torch.device
) -> list[Tensor]:
    """Of each block the codes int16 [B, T, R] of every example's stream, on a device; CodecError
    where a stream stands for none, as of `transform.decode_codes`."""
    rows, like = len(streams[0]) if streams else 0, torch.empty(0, device=device)
    if not _there(len(blocks) * rows, like):
        return [
            torch.stack([decode_codes(block.tables, x, block.tokens).short() for x in own]).to(
                device
            )
            for block, own in zip(blocks, streams, strict=True)
        ]
    for block, own in zip(blocks, streams, strict=True):
        for stream in own:
            check_length(block.tables, len(stream), block.tokens)
    flat = [stream for own in streams for stream in own]
    sizes = torch.tensor([len(stream) for stream in flat], dtype=torch.int32)
    room = int(sizes.max()) // WORD_BYTES + 3  # a decoder has taken in two words before it begins
    data = np.zeros((len(flat), room * WORD_BYTES), np.uint8)
    for row, stream in zip(data, flat, strict=True):
        if len(stream):
            row[: len(stream)] = np.frombuffer(stream, np.uint8)
    words = _swapped(on_device(torch.from_numpy(data), device)).view(torch.int32)
    counts = [block.symbols for block in blocks for _ in range(rows)]
    starts = np.cumsum([0, *counts])
    tables = [block.tables for block in blocks]
    groups, first, about = _groups(tables), 0, []
    for number, block in enumerate(blocks):
        behind, components = first + len(block.tables.sizes), block.tables.components
        for start in starts[number * rows : (number + 1) * rows].tolist():
            about.append([block.tokens, first, behind, components, start])
        first = behind
    codes = torch.empty(int(starts[-1]), dtype=torch.int16, device=device)
    right = torch.empty(len(flat), dtype=torch.int32, device=device)
    from latentwire.channel.kernels import range_kernels

    with torch.cuda.device_of(codes):
        range_kernels.decode[(len(flat),)](
            words, on_device(sizes, device),
            on_device(torch.tensor(about), device), on_device(groups, device),
            on_device(_lefts(tables), device), codes, right, room, num_warps=1,
        )  # fmt: skip
    for number, good in enumerate(right.tolist()):
        if not good:
            block = blocks[number // rows]
            decode_codes(block.tables, flat[number], block.tokens)  # says what is wrong
            raise CodecError(f"the transform stream is not one of {block.tokens} tokens")
    parts = codes.split([rows * block.symbols for block in blocks])
    return [
        part.view(rows, block.tokens, block.tables.components)
        for part, block in zip(parts, blocks, strict=True)
    ]


def _there(streams: int, like: Tensor) -> bool:
    """Whether that many streams are coded where `like` is."""
    return streams >= FEW and kernels_run(like)


def _swapped(data: Tensor) -> Tensor:
    """Bytes uint8 [rows, length], those of each word in the opposite order."""
    return data.view(len(data), data.shape[1] // WORD_BYTES, WORD_BYTES).flip(-1).view(data.shape)


def _lefts(tables: Sequence[TransformTables]) -> Tensor:
    return torch.cat([each.left_ends for each in tables])


def _groups(tables: Sequence[TransformTables]) -> Tensor:
    """Where the left ends of each group of all blocks begin, and its components: int32 [G + 1, 2],
    the last where they end."""
    sizes = torch.cat([each.sizes for each in tables])
    places = torch.cat([2 * each.clip + 2 for each in tables])
    begins = torch.cat([places.new_zeros(1), places.cumsum(0)])
    return torch.stack([begins, torch.cat([sizes, sizes.new_zeros(1)])], 1).int()


def _zeros(blocks: Sequence[Block], groups: Tensor) -> list[Tensor]:
    """Where the left end of each component's code 0 stands: int32 [R] of each block."""
    counts = [len(block.tables.sizes) for block in blocks]
    begins = groups[:-1, 0].split(counts)
    return [
        (begin + block.tables.clip).repeat_interleave(block.tables.sizes.long())
        for begin, block in zip(begins, blocks, strict=True)
    ]
