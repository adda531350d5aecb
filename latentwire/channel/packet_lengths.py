"""How long packets are, of a whole batch: counted from their runs of tokens, not written.

`packet.encode_header` is what is counted. An engine needs no header's bytes, but their number for
every question under every condition, and under a budget for every choice that is tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from latentwire.channel.cache_codec import CacheCodec, is_embedded
from latentwire.channel.header_fields import varint_bytes
from latentwire.channel.layer_runs import LayerRuns
from latentwire.channel.layout import Layout
from latentwire.channel.packet import CHECKSUM_BYTES, FIXED_BYTES, layers_named
from latentwire.channel.payload_lengths import known_payload_bytes


@dataclass(frozen=True, eq=False)
class PacketLayouts:
    """The layouts of a batch's packets, which differ by their tokens and by what is told of these;
    None where nothing goes. What no codec changes is worked out once."""

    rows: Sequence[Layout | None]
    _around: dict[CacheCodec, list[int]] = field(default_factory=dict)

    @cached_property
    def there(self) -> list[bool]:
        """Of which rows something goes."""
        return [layout is not None for layout in self.rows]

    @cached_property
    def whole(self) -> bool:
        """Whether something goes of every row."""
        return all(self.there)

    @cached_property
    def told(self) -> list[Layout]:
        """Of those rows alone."""
        return [layout for layout in self.rows if layout]

    @cached_property
    def filled(self) -> list[Layout]:
        """Every row's: one that sends nothing has no layout of its own, so any stands for it."""
        return [layout or self.told[0] for layout in self.rows]

    @cached_property
    def elements(self) -> list[int]:
        """Numbers that each packet stands for."""
        return [layout.elements if layout else 0 for layout in self.rows]

    def around_bytes(self, codec: CacheCodec) -> list[int]:
        """`packet.around_bytes` of each packet of that codec; 0 where nothing goes."""
        if codec not in self._around:
            self._around[codec] = self._around_bytes(codec)
        return self._around[codec]

    def _around_bytes(self, codec: CacheCodec) -> list[int]:
        if not self.told:
            return [0] * len(self.rows)
        runs, text, with_text = self._counted
        parameters = np.array([len(codec.parameters(layout)) for layout in self.told])
        # What is told of a text stands in every stream that may be cut.
        lengths = runs + parameters + (with_text | is_embedded(codec)) * text
        return self._spread(lengths.tolist())

    def payload_bytes(self, codec: CacheCodec) -> list[int | None]:
        """Of each packet of that codec; None where the numbers decide, 0 where nothing goes."""
        return self._spread(known_payload_bytes(codec, self.told))

    def packet_bytes(self, codec: CacheCodec) -> list[int | None]:
        """`packet.packet_bytes` of each, likewise."""
        both = zip(self.payload_bytes(codec), self.around_bytes(codec), strict=True)
        return [None if payload is None else payload + around for payload, around in both]

    def _spread(self, values: Sequence[int | None]) -> list:
        found = iter(values)
        return [next(found) if there else 0 for there in self.there]

    @cached_property
    def _counted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of those where something goes: bytes around a payload that no codec changes, bytes that
        tell how long a text is, and whether that is told whatever the codec."""
        whole = FIXED_BYTES + CHECKSUM_BYTES + 2 * -(-self.told[0].geometry.layers // 8)
        numbers = np.array([(layout.first_position, layout.text_tokens) for layout in self.told])
        first, text = varint_bytes(numbers).T
        return whole + first + _runs_bytes(self.told), text, numbers[:, 1] > 0


def _runs_bytes(layouts: Sequence[Layout]) -> np.ndarray:
    """Bytes of each header that say which tokens are sent, int64 [layouts]."""
    # Lists of runs that a header may hold: its sections', then each named layer's.
    named = layers_named(layouts[0])
    lists, list_of = 1 + len(named), np.zeros(layouts[0].geometry.layers, dtype=np.int64)
    list_of[named] = np.arange(1, lists)
    sections = [(0, run.start, len(run)) for layout in layouts for run in layout.runs]
    by_layer = [LayerRuns.of(layout.by_layer).only(named).table for layout in layouts]
    counts = [len(layout.runs) for layout in layouts], map(len, by_layer)
    row = np.repeat([*range(len(layouts))] * 2, [each for part in counts for each in part])
    layer, start, length = np.concatenate([np.array(sections), *by_layer]).T
    of_sections = np.zeros(len(sections), dtype=np.int64)
    place = row * lists + np.r_[of_sections, list_of[layer[len(sections) :]]]
    follows = np.r_[False, place[1:] == place[:-1]]
    skipped = start - np.where(follows, np.roll(start + length, 1), 0)
    runs = np.bincount(row, varint_bytes(skipped) + varint_bytes(length), len(layouts))
    listed = varint_bytes(np.bincount(place, minlength=len(layouts) * lists).reshape(-1, lists))
    differ = np.array([bool(layout.by_layer) for layout in layouts])
    # Where layers differ, a 0 stands before the lists.
    return runs.astype(np.int64) + np.where(differ, 1 + listed.sum(1), listed[:, 0])
