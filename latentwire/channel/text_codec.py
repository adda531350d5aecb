"""Text on the wire: UTF-8 as it is, or with Zstandard behind it (no packet around it)."""

from latentwire.channel.codec import CodecError
from latentwire.channel.lossless import compress, unpack_zstd
from latentwire.spec.axes import TEXT_CODECS

MOST_BYTES = 1 << 20  # a longer text is refused; 256 tokens come to a few thousand bytes


def encode_text(text: str, codec: str) -> bytes:
    """What is sent; b"" for no text. LatentWireError's CodecError for a text that is too long."""
    assert codec in TEXT_CODECS
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise CodecError(f"a text of {len(data)} bytes is longer than the {MOST_BYTES} allowed")
    return compress(data, "zstd") if codec == "utf8+zstd" else data


def decode_text(data: bytes, codec: str) -> str:
    """The text that was sent; CodecError for bytes that `encode_text` does not make."""
    assert codec in TEXT_CODECS
    try:
        if data and codec == "utf8+zstd":
            data = unpack_zstd(data, MOST_BYTES)
        elif len(data) > MOST_BYTES:
            raise CodecError(f"a text of {len(data)} bytes is longer than {MOST_BYTES}")
        return data.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"the text is damaged: {error}") from None
