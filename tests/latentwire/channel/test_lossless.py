"""The lossless stage: nothing is lost, nothing larger is unpacked than the header allows."""

import tracemalloc

import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from c2c.cache import Geometry, KVCache
from latentwire.channel.codec import CodecError
from latentwire.channel.layout import Layout
from latentwire.channel.lossless import NUMBERS, compress, decompress
from latentwire.channel.registry import codec
from latentwire.errors import LatentWireError

LAYOUT = Layout(Geometry(2, 2, 32), (0, 1), (0, 1), (range(60),))
methods = pytest.mark.parametrize("method", NUMBERS)


def make_cache() -> KVCache:
    generator = torch.Generator().manual_seed(0)
    keys, values = (
        tuple(torch.randn(1, 2, 60, 32, generator=generator).bfloat16() for _ in range(2))
        for _ in range(2)
    )
    return KVCache(keys, values)


@given(st.sampled_from(sorted(NUMBERS)), st.binary(max_size=2000))
def test_what_was_compressed_comes_back(method: str, block: bytes) -> None:
    assert decompress(compress(block, method), method, len(block)) == block


@methods
@pytest.mark.parametrize("name", ["bf16", "int8", "int2", "kivi4", "int4/last1:bf16"])
def test_it_loses_nothing_and_says_its_length(name: str, method: str) -> None:
    cache = make_cache()
    plain, squeezed = codec(name), codec(f"{name}+{method}")
    payload = squeezed.encode(cache, LAYOUT)
    ours = squeezed.decode(memoryview(payload), LAYOUT)
    theirs = plain.decode(memoryview(plain.encode(cache, LAYOUT)), LAYOUT)
    for one, other in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
        assert torch.equal(one, other)
    assert squeezed.round_trip(cache, [LAYOUT])[1] == [len(payload)]
    assert squeezed.payload_bytes(LAYOUT) is None


@methods
def test_exponents_are_sorted_together_which_pays(method: str) -> None:
    """In bfloat16 Gaussian numbers, the byte of sign and exponent holds less than 4 bits."""
    cache = make_cache()
    length = len(codec(f"bf16+{method}").encode(cache, LAYOUT))
    plain = len(codec("bf16").encode(cache, LAYOUT))
    assert length < 0.8 * plain
    assert len(compress(codec("bf16").encode(cache, LAYOUT), method)) > 1.05 * length


@methods
def test_a_bomb_is_not_unpacked(method: str) -> None:
    """A short block that would become 64 MiB."""
    bomb = compress(bytes(1 << 26), method)
    assert len(bomb) < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match=method):
            decompress(bomb, method, 1000)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 1 << 24  # what lzma looks back at is half of that


def test_a_zstd_frame_that_tells_its_size_is_refused() -> None:
    """Its reader would set aside what the frame says, whatever limit it is given."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=True
    )
    block = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(1000))
    with pytest.raises(CodecError, match="tells its size"):
        decompress(block, "zstd", 1000)


@methods
def test_any_other_length_or_end_is_refused(method: str) -> None:
    for length in (0, 1, 7, 3000):
        block = compress(bytes(range(256)) * 12 if length == 3000 else b"x" * length, method)
        exact = 3072 if length == 3000 else length
        for wrong in {exact - 1, exact + 1} - {-1}:
            with pytest.raises(CodecError):
                decompress(block, method, wrong)
        for damaged in (block + b"\0", block[:-1]) if block else (b"\0",):
            with pytest.raises(CodecError):
                decompress(damaged, method, exact)


def test_stages_that_make_no_sense_are_refused() -> None:
    for name, words in (
        ("int4+", "lossless stage '' is unknown; there are zstd, lzma"),
        ("int4+gzip", "lossless stage 'gzip' is unknown"),
        ("int4+zstd+lzma", "lossless stage 'zstd.lzma' is unknown"),
        ("+zstd", "codec '' is unknown"),
    ):
        with pytest.raises(LatentWireError, match=words):
            codec(name)
