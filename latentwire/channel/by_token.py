"""`tokens:int8:int4`: each token in the codec that its sender gave it, all of its layers alike.

Tokens of one codec, its *class*, are coded together as if they were all that is sent: what shares a
scale shares it within the class. A sender that gave none its class sends all in the first named.

Parameters in the packet: how many classes there are (1 byte), their codecs' numbers (1 byte each,
ascending), and, where there are several, the class of each token of the sections, in order, in as
few bits as count the classes, packed as in `payload_parts`. Payload: that of each class, in this
order, by its own codec.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from c2c.cache import KVCache, tokens_at
from c2c.on_device import on_device
from latentwire.channel import stacked
from latentwire.channel.codec import CodecError
from latentwire.channel.codec_names import BY_TOKEN
from latentwire.channel.device_codec import DeviceCodec, unsent
from latentwire.channel.header_fields import PacketError, Reader
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.mixed_precision import ScheduleError
from latentwire.channel.payload_lengths import known_payload_bytes
from latentwire.channel.payload_parts import pack, packed_bytes, unpack
from latentwire.channel.per_tensor import PerTensor

NUMBER = 72
MOST_CLASSES = 16


@dataclass(frozen=True)
class ByToken(DeviceCodec):
    """Codecs by token: as the layout says (on the sending side), or as a packet did."""

    name: str
    classes: tuple[PerTensor, ...]
    told: bytes | None = None  # of a packet's tokens; empty where there is one class
    number: int = NUMBER
    bits: float | None = None

    def parameters(self, layout: Layout) -> bytes:
        used = [place for place, _, _ in self._parts(layout)]
        numbers = bytes([len(used), *(self.classes[place].number for place in used)])
        if len(used) < 2:
            return numbers
        places = np.zeros(len(self.classes), np.uint8)
        places[used] = np.arange(len(used))
        codes = places[np.frombuffer(self._of_tokens(layout), np.uint8)]
        return numbers + pack(codes, _code_bits(len(used)))

    def write(self, cache: KVCache, layout: Layout, out: Tensor, broken: Tensor) -> None:
        parts = self._split(out, layout)
        if len(parts) == 1:  # all tokens, in their order
            ((each, sub, room),) = parts
            each.write(cache, sub, room, broken)
        elif layout.sent:
            for (each, sub, room), own in zip(parts, self._by_class(cache, layout), strict=True):
                each.write_stack(own, sub, room, broken)

    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        parts = self._parts(layout)
        if len(parts) == 1 or not layout.sent:
            return self.classes[parts[0][0]].written_alone(cache, parts[0][2])
        found = []
        for (place, _, sub), own in zip(parts, self._by_class(cache, layout), strict=True):
            sent = sub.cache(dict(zip(sub.sent, own.unbind(), strict=True)), cache.keys[0])
            found.append(self.classes[place].written_alone(sent, sub))
        return torch.cat(found, -1)

    def read(self, data: Tensor, layout: Layout, dtype: torch.dtype, broken: Tensor) -> KVCache:
        parts = self._split(data, layout)
        if len(parts) == 1:
            ((each, sub, own),) = parts
            return each.read(own, sub, dtype, broken)
        heads, tokens, head_dim = layout.shape
        shape = len(layout.sent), len(data), heads, tokens, head_dim
        whole, start = torch.empty(shape, dtype=dtype, device=data.device), 0
        for each, sub, own in parts:  # class by class, then all tokens to their places at once
            each.read_stack(own, sub, whole[..., start : start + sub.tokens, :], broken)
            start += sub.tokens
        back = np.argsort(np.concatenate([at for _, at, _ in self._parts(layout)]))
        if layout.sent:
            whole = stacked.reordered(whole, torch.from_numpy(back))
        like = unsent(layout, len(data), whole)
        return layout.cache(dict(zip(layout.sent, whole.unbind(), strict=True)), like)

    def refuse(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        for each, sub, own in self._split(data, layout):
            each.caches(own, sub, dtype)

    def _by_class(self, cache: KVCache, layout: Layout) -> Sequence[Tensor]:
        """What is sent of the tokens of each class that has any, [N, B, H, T, D]."""
        parts = self._parts(layout)
        order = np.concatenate([at for _, at, _ in parts])
        sent = [tensor_of(cache, *site) for site in layout.sent]
        whole = stacked.reordered(sent, torch.from_numpy(order))
        return whole.split([sub.tokens for _, _, sub in parts], -2)

    def _split(self, data: Tensor, layout: Layout) -> list[tuple[PerTensor, Layout, Tensor]]:
        """Of each class that has tokens its codec, a layout of as many, and where their payloads
        stand in those of all, [B, bytes]."""
        parts = [(self.classes[place], sub) for place, _, sub in self._parts(layout)]
        own = data.split([each.payload_bytes(sub) for each, sub in parts], -1)
        return [(each, sub, data) for (each, sub), data in zip(parts, own, strict=True)]

    def payload_bytes(self, layout: Layout) -> int:
        return sum(self.classes[place].payload_bytes(sub) for place, _, sub in self._parts(layout))

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        """Class by class, each of all rows at once."""
        rows = [
            {place: (np.arange(each.tokens) if at is None else at, sub) for place, at, sub in parts}
            for each in layouts
            for parts in (self._parts(each),)
        ]
        back = np.zeros((len(rows), cache.tokens), np.int64)
        arrived, start = [], 0
        for place, codec in enumerate(self.classes):
            own = [row.get(place) for row in rows]
            if not (some := next((each[1] for each in own if each), None)):
                continue
            for row, each in enumerate(own):
                if each:
                    back[row, each[0]] = start + np.arange(len(each[0]))
            taken = tokens_at(cache, [each[0].tolist() if each else [0] for each in own])
            subs = [each[1] if each else some for each in own]
            arrived.append(codec.round_trip(taken, subs)[0])
            start += taken.tokens
        heads, _, head_dim = layouts[0].shape
        index = on_device(torch.from_numpy(back), cache.keys[0].device)[:, None, :, None]
        index = index.expand(-1, heads, -1, head_dim)
        whole = {
            site: torch.cat([tensor_of(each, *site) for each in arrived], 2).gather(2, index)
            for site in layouts[0].sites
        }
        return layouts[0].cache(whole, cache.keys[0]), known_payload_bytes(self, layouts)

    def _of_tokens(self, layout: Layout) -> bytes:
        """The class of each token; empty where all have the first."""
        return layout.classes if self.told is None else self.told

    def _parts(self, layout: Layout) -> Sequence[tuple[int, np.ndarray | None, Layout]]:
        """Of each class that has tokens, by number: which it is, its tokens' places (None: all),
        and a layout of as many. CodecError where tokens differ by layer."""
        _ = layout.shape
        of_tokens = self._of_tokens(layout)
        parts = _parts_of(tuple(each.number for each in self.classes), of_tokens, layout)
        if not parts:
            raise CodecError(f"{self.name}: the classes are not those of {layout.tokens} tokens")
        return parts


@lru_cache(1 << 6)  # several things are asked of one packet's
def _parts_of(
    numbers: tuple[int, ...], of_tokens: bytes, layout: Layout
) -> list[tuple[int, np.ndarray | None, Layout]]:
    """`_parts` of classes whose codecs have these numbers; none where tokens are not of these."""
    if not of_tokens:
        return [(0, None, _of_count(layout, layout.tokens))]
    given = np.frombuffer(of_tokens, np.uint8)
    if len(given) != layout.tokens or int(given.max()) >= len(numbers):
        return []
    found = [(place, np.flatnonzero(given == place)) for place in range(len(numbers))]
    found.sort(key=lambda part: numbers[part[0]])
    return [(place, at, _of_count(layout, len(at))) for place, at in found if len(at)]


def _of_count(layout: Layout, tokens: int) -> Layout:
    """Of that many tokens, wherever they stand: payloads are the same."""
    return replace(layout, runs=(range(tokens),), text_tokens=0, classes=b"")


def _code_bits(classes: int) -> int:
    return (classes - 1).bit_length()


def parse(text: str, codec: Callable[[str], PerTensor]) -> ByToken:
    """The codec that `text` spells; ScheduleError for one that is none.

    `codec` gives a tensor codec by name, and raises for a name that has none.
    """
    names = text.removeprefix(BY_TOKEN).split(":")
    if not 1 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise ScheduleError(
            f"{text!r} names no codecs, one twice or too many: write tokens:int8:int4:int2, the"
            " finest first"
        )
    return ByToken(text, tuple(map(codec, names)))


def read(reader: Reader, layout: Layout, by_number: Mapping[int, PerTensor]) -> ByToken:
    """The codec of a packet, from its parameters; PacketError for what nobody writes."""
    if layout.by_layer:
        raise PacketError("tokens have classes, but are others in other layers")
    numbers = reader.bytes(reader.byte())
    if not 1 <= len(numbers) <= MOST_CLASSES or any(each not in by_number for each in numbers):
        raise PacketError("the packet's classes of tokens are no codecs, or too many")
    if list(numbers) != sorted({*numbers}):
        raise PacketError("the packet's classes of tokens do not ascend")
    classes = tuple(by_number[number] for number in numbers)
    name = BY_TOKEN + ":".join(each.name for each in classes)
    if len(classes) == 1:
        return ByToken(name, classes, b"")
    bits = _code_bits(len(classes))
    packed = reader.bytes(packed_bytes((layout.tokens,), bits))
    try:
        told = unpack(packed, bits, layout.tokens)
    except CodecError as error:
        raise PacketError(str(error)) from None
    if np.bincount(told, minlength=len(classes)).tolist().count(0) or told.max() >= len(classes):
        raise PacketError("the packet's classes are not those of its tokens")
    return ByToken(name, classes, told.tobytes())
