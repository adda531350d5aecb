"""Text on the wire: UTF-8 as it is, or with Zstandard behind it (no packet around it).

A third codec, `lm`, needs a model: `evaluation.text_model`.
"""

from latentwire.channel.codec import CodecError
from latentwire.channel.lossless import compress, unpack_zstd
from latentwire.spec.axes import BYTE_CODECS

MOST_BYTES = 1 << 20  # a longer text is refused; 256 tokens come to a few thousand bytes


def encode_text(text: str, codec: str) -> bytes:
    """What is sent; b"" for no text. LatentWireError's CodecError for a text that is too long."""
    assert codec in BYTE_CODECS
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise CodecError(f"a text of {len(data)} bytes is longer than the {MOST_BYTES} allowed")
    return compress(data, "zstd") if codec == "utf8+zstd" else data


def decode_text(data: bytes, codec: str) -> str:
    """The text that was sent; CodecError for bytes that `encode_text` does not make."""
    assert codec in BYTE_CODECS
    try:
        if data and codec == "utf8+zstd":
            data = unpack_zstd(data, MOST_BYTES)
        elif len(data) > MOST_BYTES:
            raise CodecError(f"a text of {len(data)} bytes is longer than {MOST_BYTES}")
        return data.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"the text is damaged: {error}") from None


def fitting(text: str, codec: str, budget_bytes: int) -> str:
    """As many of a text's first characters as a packet of so many bytes holds; CodecError as
    `encode_text`. A compressed text is seldom shorter than its beginnings: it is searched for by
    halves."""
    if len(encode_text(text, codec)) <= budget_bytes:
        return text
    if codec == "utf8":
        return text.encode()[: max(0, budget_bytes)].decode(errors="ignore")
    fits, exceeds = 0, len(text)
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if len(encode_text(text[:middle], codec)) <= budget_bytes:
            fits = middle
        else:
            exceeds = middle
    return text[:fits]
