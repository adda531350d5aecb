"""How long payloads are, worked out once for layouts that are alike: an engine asks it of each
question under each condition."""

from functools import lru_cache
from typing import Any

from c2c.cache import Geometry
from latentwire.channel.layout import Layout


def known_payload_bytes(codec: Any, layout: Layout) -> Any:
    """`codec.payload_bytes(layout)`, of a `CacheCodec`: an int, or None where the numbers decide.
    Where tokens stand does not matter."""
    layers = layout.key_layers, layout.value_layers
    counts = layout.counts if layout.by_layer else ()
    return _payload_bytes(codec, layout.geometry, *layers, layout.tokens, counts, layout.classes)


@lru_cache(1 << 14)
def _payload_bytes(
    codec: Any,  # all are frozen
    geometry: Geometry,
    key_layers: tuple[int, ...],
    value_layers: tuple[int, ...],
    tokens: int,
    counts: tuple[int, ...],
    classes: bytes,
) -> Any:
    by_layer = tuple((range(count),) if count else () for count in counts)
    runs = (range(tokens),)
    layout = Layout(geometry, key_layers, value_layers, runs, by_layer=by_layer, classes=classes)
    return codec.payload_bytes(layout)
