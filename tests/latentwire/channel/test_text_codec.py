import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.channel import text_codec
from latentwire.channel.codec import CodecError
from latentwire.channel.text_codec import BYTE_CODECS, decode_text, encode_text, fitting

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@pytest.mark.parametrize("codec", BYTE_CODECS)
@given(sent=TEXTS)
def test_what_is_decoded_is_what_was_sent(codec: str, sent: str) -> None:
    data = encode_text(sent, codec)
    assert decode_text(data, codec) == sent
    assert (data == b"") == (sent == "")


@pytest.mark.parametrize("codec", BYTE_CODECS)
@given(data=st.binary(max_size=64))
def test_any_bytes_are_a_text_or_refused(codec: str, data: bytes) -> None:
    with contextlib.suppress(CodecError):
        assert isinstance(decode_text(data, codec), str)


def test_repetition_is_cheaper_by_zstd() -> None:
    sent = "the heron lives in the north " * 20
    assert len(encode_text(sent, "utf8")) == len(sent)
    assert len(encode_text(sent, "utf8+zstd")) < len(sent) / 5


@pytest.mark.parametrize("codec", BYTE_CODECS)
def test_no_more_is_unpacked_than_allowed(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_text("a" * 2000, codec)
    monkeypatch.setattr(text_codec, "MOST_BYTES", 1000)
    with pytest.raises(CodecError):
        decode_text(data, codec)
    with pytest.raises(CodecError, match="longer"):
        encode_text("a" * 2000, codec)


def test_a_frame_that_tells_its_size_is_refused_and_not_believed() -> None:
    """Its reader would set aside what the frame says: here a terabyte in a few bytes."""
    frame = bytes([0b11000000, 0x58]) + (1 << 40).to_bytes(8, "little") + b"\x01\0\0"
    with pytest.raises(CodecError, match="tells its size"):
        decode_text(frame, "utf8+zstd")


@pytest.mark.parametrize("codec", BYTE_CODECS)
@given(sent=TEXTS, most=st.integers(1, 80))
def test_a_budget_holds_the_beginning_that_fits(codec: str, sent: str, most: int) -> None:
    kept = fitting(sent, codec, most)
    assert sent.startswith(kept) and len(encode_text(kept, codec)) <= most
    if kept != sent and codec == "utf8":  # one character more does not fit
        assert len(sent[: len(kept) + 1].encode()) > most
