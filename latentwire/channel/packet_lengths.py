"""How long packets are, of a whole batch: counted from their runs of tokens, not written.

`packet.encode_header` is what is counted. An engine needs no header's bytes, but their number for
every question under every condition, and under a budget for every choice that is tried.
"""

from collections.abc import Sequence

import numpy as np

from latentwire.channel.header_fields import varint_bytes
from latentwire.channel.layer_runs import LayerRuns
from latentwire.channel.layout import Layout
from latentwire.channel.packet import (
    CHECKSUM_BYTES,
    CUT_VERSION,
    FIXED_BYTES,
    Header,
    layers_named,
)
from latentwire.channel.payload_lengths import known_payload_bytes


def count_around_bytes(headers: Sequence[Header | None]) -> list[int]:
    """`packet.around_bytes` of each of several headers, which differ by their tokens and by what is
    told of these; 0 without a header."""
    told = [header for header in headers if header]
    if not told:
        return [0] * len(headers)
    layouts = [header.layout for header in told]
    whole = FIXED_BYTES + CHECKSUM_BYTES + 2 * -(-layouts[0].geometry.layers // 8)
    parameters = np.array([len(header.codec.parameters(header.layout)) for header in told])
    numbers = np.array([(layout.first_position, layout.text_tokens) for layout in layouts])
    first, text = varint_bytes(numbers).T
    with_text = (told[0].version == CUT_VERSION) | (numbers[:, 1] > 0)
    found = iter((whole + parameters + first + with_text * text + _runs_bytes(layouts)).tolist())
    return [next(found) if header else 0 for header in headers]


def count_packet_bytes(headers: Sequence[Header | None]) -> list[int | None]:
    """`packet.packet_bytes` of each, likewise."""
    found: list[int | None] = []
    for header, around in zip(headers, count_around_bytes(headers), strict=True):
        payload = known_payload_bytes(header.codec, header.layout) if header else 0
        found.append(None if payload is None else around + payload)
    return found


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
