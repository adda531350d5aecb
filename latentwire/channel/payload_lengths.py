"""How long payloads are, worked out once for layouts that are alike: an engine asks it of each
question under each condition."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from c2c.cache import Geometry
from latentwire.channel.layout import Layout

MOST_KNOWN = 1 << 14  # lengths of one codec


def known_payload_bytes(codec: Any, layouts: Sequence[Layout]) -> list[Any]:
    """`codec.payload_bytes(layout)` of each, of a `CacheCodec`: ints, or None where the numbers
    decide. Layouts are of the same tensors; where tokens stand does not matter."""
    if not layouts:
        return []
    first = layouts[0]
    known = _known(codec, first.geometry, first.key_layers, first.value_layers)
    if len(known) > MOST_KNOWN:
        known.clear()
    found = []
    for layout in layouts:
        sent = layout.counts if layout.by_layer else layout.tokens, layout.classes
        if sent not in known:
            known[sent] = codec.payload_bytes(layout)
        found.append(known[sent])
    return found


@lru_cache(1 << 8)
def _known(codec: Any, geometry: Geometry, *layers: tuple[int, ...]) -> dict[Any, Any]:
    """Lengths of one codec's payloads of these tensors, by what is sent; all codecs are frozen."""
    return {}
