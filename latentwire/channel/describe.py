"""A packet as people read it: what it says, and where its bytes go."""

from itertools import islice

from latentwire.channel.cache_codec import CacheCodec
from latentwire.channel.layout import Layout
from latentwire.channel.lossless import Lossless
from latentwire.channel.packet import (
    CHECKSUM_BYTES,
    Header,
    around_bytes,
    decode,
    decode_header,
)

MOST_RUNS = 16  # that are listed
MOST_TENSORS = 4096  # whose numbers are looked at: more than the largest model's by far


def describe(data: bytes) -> str:
    """Lines of `name: value`; PacketError for bytes that are no packet, whatever their pair.

    The numbers of the cache are decoded too, but where that takes a calibration, or where there are
    more than MOST_TENSORS tensors.
    """
    header, _ = decode_header(data)
    layout = header.layout
    if not _digest(header.codec) and len(layout.sent) <= MOST_TENSORS:
        decode(data, layout.geometry, header.identity)
    parameters = len(header.codec.parameters(layout))
    payload = len(data) - around_bytes(header)
    fields = around_bytes(header) - CHECKSUM_BYTES - parameters
    parts = {
        "packet": f"version {header.version}, {len(data)} bytes",
        "pair": header.identity.hex(),
        "codec": _codec(header),
        "sharer": f"{layout.geometry.layers} layers, {layout.geometry.kv_heads} KV heads of"
        f" {layout.geometry.head_dim} channels",
        "keys of layers": _ranges(layout.key_layers),
        "values of layers": _ranges(layout.value_layers),
        "tokens": f"{layout.tokens}: {_runs(layout)}",
        "numbers": f"{layout.elements}, {_bits(len(data), layout)} bits each, all in",
        "bytes": f"{fields} header, {parameters} codec parameters,"
        f" {payload} payload, {CHECKSUM_BYTES} checksum",
    }
    width = max(map(len, parts)) + 1
    return "\n".join(f"{name + ':':<{width}} {text}" for name, text in parts.items())


def _codec(header: Header) -> str:
    codec, layout = header.codec, header.layout
    text = f"{codec.name} (number {codec.number})"
    digest = _digest(codec)
    if digest:
        text += f", calibration {digest.hex()}, without which its numbers are not looked at"
    if isinstance(codec, Lossless):
        text += f", {codec.inner.payload_bytes(layout)} bytes before its lossless stage"
    return text


def _digest(codec: CacheCodec) -> bytes:
    inner = codec.inner if isinstance(codec, Lossless) else codec
    return getattr(inner, "digest", b"")


def _bits(length: int, layout: Layout) -> str:
    return f"{8 * length / layout.elements:.3f}" if layout.elements else "no"


def _runs(layout: Layout) -> str:
    listed = [f"{run.start} to {run.stop - 1}" for run in islice(layout.runs, MOST_RUNS)]
    more = len(layout.runs) - len(listed)
    text = ", ".join(listed) + (f" and {more} more runs" if more else "")
    if layout.by_layer:
        counts = {layout.tokens_of(layer) for layer in (*layout.key_layers, *layout.value_layers)}
        text += f"; of these, each layer its own, {min(counts)} to {max(counts)} of them"
    if layout.text_tokens:
        text += f"; of a text of {layout.text_tokens}"
    return text


def _ranges(layers: tuple[int, ...]) -> str:
    """0, 1, 2, 5 as "0-2, 5"."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1][1:] = [layer]
        else:
            parts.append([layer])
    return ", ".join("-".join(map(str, part)) for part in parts) or "none"
