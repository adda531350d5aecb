"""The transform codec against its own statement, an ideal coder, and data nobody encoded."""

import math
from dataclasses import replace
from functools import cache, partial
from typing import Any

import constriction
import numpy as np
import pytest
import torch
from calibrations import fit
from correlated import correlated as correlated_tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentwire.channel.codec import CodecError
from latentwire.channel.transform import (
    FREQUENCY_BITS,
    MAX_CLIP,
    TOTAL,
    TransformTables,
    decode,
    decode_codes,
    encode,
    encode_codes,
    quantize,
    reconstruct,
    round_trip,
)

quick = settings(deadline=None, max_examples=40, derandomize=True)


correlated = partial(correlated_tokens, directions=4321)


def cross_entropy_bits(tables: TransformTables, codes: Tensor) -> float:
    """Bits that the frequencies give to codes int32 [T, R]: what an ideal coder would spend."""
    starts = (2 * tables.clip + 1).cumsum(0) - tables.clip - 1  # where each group's code 0 stands
    where = codes + starts.repeat_interleave(tables.sizes.long())
    return float((FREQUENCY_BITS - tables.frequencies[where.long()].double().log2()).sum())


@cache
def fitted(features: int, bits: float) -> TransformTables:
    return fit(correlated(40 * features, features, 0), bits)


def made(clips: list[int], seed: int = 0, sizes: list[int] | None = None) -> TransformTables:
    """Tables with clips and skewed random frequencies as asked, two features more than needed."""
    sizes = sizes or [1] * len(clips)
    draw = np.random.default_rng(seed)
    frequencies = []
    for clip in clips:
        row = 1 + draw.multinomial(
            TOTAL - 2 * clip - 1, draw.dirichlet(np.full(2 * clip + 1, 0.3))
        ).astype(np.int32)
        frequencies.append(row)
    features = sum(sizes) + 2
    basis = torch.linalg.qr(
        torch.randn(features, features, generator=torch.Generator().manual_seed(seed))
    )[0]
    return TransformTables(
        mean=torch.linspace(-1, 1, features),
        basis=basis[:, : sum(sizes)].contiguous(),
        sizes=torch.tensor(sizes, dtype=torch.int32),
        step=torch.linspace(0.5, 2.0, len(clips)),
        pull=torch.linspace(0.0, 0.5, len(clips)),
        clip=torch.tensor(clips, dtype=torch.int32),
        frequencies=torch.from_numpy(np.concatenate(frequencies).astype(np.int32)),
    )


def random_codes(tables: TransformTables, tokens: int, seed: int) -> Tensor:
    """Codes [T, R] all over their ranges, as likely at the clip as at zero."""
    clip = tables.clip.repeat_interleave(tables.sizes.long())
    uniform = torch.rand(tokens, len(clip), generator=torch.Generator().manual_seed(seed))
    return ((2 * clip + 1) * uniform).floor().int().minimum(2 * clip) - clip


# --- the stated arithmetic and its inverse -------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 2, 13, 120])
@pytest.mark.parametrize(("features", "bits"), [(1, 2.0), (7, 3.0), (33, 0.5), (64, 1.0)])
def test_decoding_gives_the_quantized_matrix_bit_for_bit(
    features: int, bits: float, tokens: int
) -> None:
    tables = fitted(features, bits)
    x = correlated(tokens, features, 5)
    data = encode(tables, x)
    expected = reconstruct(tables, quantize(tables, x))
    assert expected.shape == (tokens, features)
    assert expected.dtype == torch.float32
    assert torch.equal(decode(tables, data, tokens), expected)
    found, size = round_trip(tables, x)
    assert torch.equal(found, expected)
    assert size == len(data)


def test_codes_and_numbers_are_those_of_the_formula() -> None:
    tables = made([2, 5])
    z = torch.tensor([[0.26, -4.9], [99.0, -99.0], [-0.2, 0.0]], dtype=torch.float64)
    x = (z @ tables.basis.double().T + tables.mean.double()).float()
    codes = quantize(tables, x)
    # steps 0.5 and 2: 0.52 -> 1, -2.45 -> -2; beyond the clip; toward zero.
    assert codes.tolist() == [[1, -2], [2, -5], [0, 0]]
    # pulls 0 and 1/2 of a step.
    components = torch.tensor([[0.5, -3.0], [1.0, -9.0], [0.0, 0.0]], dtype=torch.float64)
    expected = components @ tables.basis.double().T + tables.mean.double()
    torch.testing.assert_close(reconstruct(tables, codes), expected.float())


def test_the_error_is_what_rounding_and_dropping_leave() -> None:
    tables = replace(made([MAX_CLIP] * 6), pull=torch.zeros(6))
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    centred = (x - tables.mean).double()
    inside = centred @ tables.basis.double()
    error = (reconstruct(tables, quantize(tables, x)) - x).double() @ tables.basis.double()
    assert (error.abs() <= tables.step / 2 + 1e-5).all()
    outside = centred - inside @ tables.basis.double().T
    left = (reconstruct(tables, quantize(tables, x)) - x).double()
    torch.testing.assert_close(left - error @ tables.basis.double().T, -outside, atol=1e-5, rtol=0)


@quick
@given(
    clips=st.lists(st.sampled_from([1, 2, 7, 40, MAX_CLIP]), min_size=1, max_size=5),
    size=st.integers(1, 5),
    tokens=st.integers(1, 40),
    seed=st.integers(0, 2**20),
)
def test_any_codes_survive(clips: list[int], size: int, tokens: int, seed: int) -> None:
    tables = made(clips, seed % 7, [size] * len(clips))
    codes = random_codes(tables, tokens, seed)
    data = encode_codes(tables, codes)
    assert torch.equal(decode_codes(tables, data, tokens), codes)
    assert len(data) <= cross_entropy_bits(tables, codes) / 8 * 1.01 + 1


@quick
@given(seed=st.integers(0, 2**20), scale=st.sampled_from([0.0, 1e-30, 1.0, 1e4, 1e38]))
def test_any_finite_numbers_can_be_sent(seed: int, scale: float) -> None:
    tables = fitted(7, 3.0)
    x = torch.rand(3, 7, generator=torch.Generator().manual_seed(seed)) * 2 * scale - scale
    found = decode(tables, encode(tables, x), 3)
    assert torch.isfinite(found).all()
    assert torch.equal(found, round_trip(tables, x)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_taken_as_float32(dtype: torch.dtype) -> None:
    x = correlated(5, 7, 1).to(dtype)
    assert encode(fitted(7, 3.0), x) == encode(fitted(7, 3.0), x.float())


def test_an_example_does_not_depend_on_its_memory() -> None:
    tables, x = fitted(33, 0.5), correlated(12, 33, 2)
    strided = x.T.contiguous().T
    assert encode(tables, strided) == encode(tables, x)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_is_refused(bad: float) -> None:
    x = correlated(4, 7, 1)
    x[2, 3] = bad
    for function in (encode, round_trip, quantize):
        with pytest.raises(CodecError, match="NaN or infinite"):
            function(fitted(7, 3.0), x)


@pytest.mark.parametrize("shape", [(3, 6), (3, 8), (0, 7), (7,), (1, 3, 7)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CodecError, match="tokens of 7 numbers"):
        encode(fitted(7, 3.0), torch.zeros(shape))


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 12, 120])
@pytest.mark.parametrize("bits", [0.25, 0.5, 1.0, 2.0, 3.0])
def test_the_stream_is_as_long_as_an_ideal_coders(bits: float, tokens: int) -> None:
    tables = fitted(64, bits)
    for seed in range(5):
        codes = quantize(tables, correlated(tokens, 64, 100 + seed))
        ideal = cross_entropy_bits(tables, codes) / 8
        size = len(encode_codes(tables, codes))
        assert ideal - 1 <= size <= ideal * 1.002 + 1.5


def test_cross_entropy_is_that_of_the_frequencies() -> None:
    tables = made([1, 2], sizes=[1, 2])
    codes = torch.tensor([[-1, 2, -2], [1, 0, 0]], dtype=torch.int32)
    first, second = tables.frequencies[:3].tolist(), tables.frequencies[3:].tolist()
    chosen = [first[0], first[2], second[4], second[0], second[2], second[2]]
    expected = -sum(math.log2(frequency / TOTAL) for frequency in chosen)
    assert cross_entropy_bits(tables, codes) == pytest.approx(expected)


def test_the_likeliest_code_costs_next_to_nothing() -> None:
    row = torch.tensor([1, TOTAL - 2, 1], dtype=torch.int32)
    tables = replace(made([1]), frequencies=row)
    assert len(encode_codes(tables, torch.zeros(100, 1, dtype=torch.int32))) <= 1


def test_the_stream_is_the_same_everywhere() -> None:
    """A recorded stream: another version of the coder or another machine must write the same."""
    tables = TransformTables(
        mean=torch.zeros(3),
        basis=torch.eye(3),
        sizes=torch.tensor([1, 2], dtype=torch.int32),
        step=torch.tensor([1.0, 0.5]),
        pull=torch.tensor([0.0, 0.25]),
        clip=torch.tensor([1, 2], dtype=torch.int32),
        frequencies=torch.tensor(
            [9_001, 50_000, 6_535, 77, 12_345, 40_001, 13_112, 1], dtype=torch.int32
        ),
    )
    codes = torch.tensor(
        [[0, 1, -1], [-1, 0, 0], [0, 2, 0], [1, -2, 1], [0, 0, 0]], dtype=torch.int32
    )
    recorded = bytes.fromhex("3ad5ded59ad4")
    assert encode_codes(tables, codes) == recorded
    assert torch.equal(decode_codes(tables, recorded, 5), codes)


def test_streams_on_the_edge_of_a_carry() -> None:
    """Codes whose interval lies about a long run of one bits, where an encoder has to wait."""
    tables = made([7, 40, 2], sizes=[2, 1, 2])
    clip = tables.clip.repeat_interleave(tables.sizes.long())
    waited = 0
    for head in range(1, 256):
        for fill in (0x00000000, 0xFFFFFFFF):
            words = np.full(60, fill, dtype=np.uint32)
            words[0] = (head << 24) | (fill >> 8)
            codes = torch.zeros(6, 5, dtype=torch.int32)
            coder = constriction.stream.queue.RangeDecoder(words)
            try:
                for span, model in zip(tables.spans, tables.models, strict=True):
                    size = span.stop - span.start
                    got = coder.decode(model, 6 * size).reshape(6, size)
                    codes[:, span] = torch.from_numpy(got)
            except AssertionError:  # a few fractions lie between all codes' intervals
                continue
            codes -= clip
            data = encode_codes(tables, codes)
            waited += data.count(b"\xff") + data.count(b"\0") > len(data) // 2
            assert torch.equal(decode_codes(tables, data, 6), codes)
    assert waited > 100


# --- data nobody encoded -------------------------------------------------------------------------


def test_mutated_streams_decode_to_a_matrix_or_are_refused() -> None:
    tables = made([1, 3, 20], sizes=[2, 3, 1])
    draw = np.random.default_rng(7)
    refused = decoded = 0
    for number in range(10_000):
        if number % 100 == 0:
            tokens = int(draw.integers(1, 9))
            original = encode_codes(tables, random_codes(tables, tokens, number))
        data = bytearray(original)
        for _ in range(draw.integers(1, 4)):
            action, place = draw.integers(3), int(draw.integers(len(data) + 1))
            if action == 0 and place < len(data):
                data[place] ^= 1 << draw.integers(8)
            elif action == 1:
                data[place:place] = draw.bytes(int(draw.integers(1, 5)))
            else:
                del data[place : place + int(draw.integers(1, 5))]
        try:
            found = decode(tables, bytes(data), tokens)
        except CodecError:
            refused += 1
            continue
        decoded += 1
        assert found.shape == (tokens, 8)
        assert torch.isfinite(found).all()
        assert encode_codes(tables, decode_codes(tables, bytes(data), tokens)) == bytes(data)
    assert refused > 1000
    assert decoded > 100  # a flipped bit often makes another valid stream: the packet has a CRC


@quick
@given(data=st.binary(max_size=60), tokens=st.integers(1, 5))
def test_arbitrary_bytes_decode_to_a_matrix_or_are_refused(data: bytes, tokens: int) -> None:
    tables = made([1, 3, 20])
    try:
        found = decode(tables, memoryview(data), tokens)
    except CodecError:
        return
    assert found.shape == (tokens, 5)
    assert torch.isfinite(found).all()


def test_a_stream_cut_short_or_made_longer_is_refused() -> None:
    tables = fitted(64, 1.0)
    data = encode(tables, correlated(30, 64, 8))
    for cut in range(1, len(data)):
        with pytest.raises(CodecError):
            decode(tables, data[:-cut], 30)
    for tail in (b"\0", b"\1", b"\0\0\0\0", b"\xff" * 4, b"\0\0\0\1", data):
        with pytest.raises(CodecError):
            decode(tables, data + tail, 30)


def test_a_stream_of_another_number_of_tokens_is_refused() -> None:
    tables = fitted(64, 1.0)
    data = encode(tables, correlated(30, 64, 8))
    for tokens in (1, 25, 35, 300):
        with pytest.raises(CodecError):
            decode(tables, data, tokens)
    for tokens in (0, -1):
        with pytest.raises(CodecError, match="at least one token"):
            decode(tables, b"", tokens)


def test_too_long_a_stream_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(CodecError, match="never 1000000 bytes"):
        decode(made([1]), b"\1" * 1_000_000, 3)


def test_a_transform_without_components_sends_nothing() -> None:
    tables = fit(torch.full((20, 5), 2.5), 1.0)
    assert tables.components == 0
    x = correlated(4, 5, 0)
    assert encode(tables, x) == b""
    assert torch.equal(decode(tables, b"", 4), torch.full((4, 5), 2.5))
    with pytest.raises(CodecError):
        decode(tables, b"\1", 4)


# --- tables --------------------------------------------------------------------------------------


def test_tables_survive_as_tensors() -> None:
    tables = fitted(33, 0.5)
    tensors = tables.to_tensors()
    again = TransformTables.from_tensors({name: tensor.clone() for name, tensor in tensors.items()})
    x = correlated(9, 33, 3)
    assert encode(again, x) == encode(tables, x)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in again.to_tensors().items())


def _changed(tensor: Tensor, place: Any, value: float) -> Tensor:
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


_CHANGES: list[tuple[str, Any, str]] = [
    ("mean", lambda t: t.double(), "mean is not"),
    ("mean", lambda t: t[:-1], "features in the basis"),
    ("mean", lambda t: _changed(t, 0, math.nan), "NaN or infinite"),
    ("mean", lambda t: _changed(t, 0, 3.4e38), "past the largest"),
    ("basis", lambda t: t[0], "basis is not"),
    ("basis", lambda t: t[:-1], "features in the basis"),
    ("basis", lambda t: t[:0], "0 features"),
    ("basis", lambda t: torch.cat([t, t], 1), "6 components of 5 features"),
    ("basis", lambda t: _changed(t, (0, 0), math.inf), "NaN or infinite"),
    ("basis", lambda t: _changed(t, (0, 0), 3e38), "not orthonormal"),
    ("basis", lambda t: t * 1.01, "not orthonormal"),
    ("basis", lambda t: t[:, [0, 0, 2]], "not orthonormal"),
    ("basis", lambda t: t[:, :2], "2 components together"),
    ("sizes", lambda t: t.long(), "sizes is not"),
    ("sizes", lambda t: _changed(t, 0, 0), "components together"),
    ("sizes", lambda t: _changed(t, 0, 2**31 - 1), "components together"),
    ("sizes", lambda t: t[:-1], "do not all have"),
    ("step", lambda t: _changed(t, 1, 0), "step is not positive"),
    ("step", lambda t: _changed(t, 1, -1), "step is not positive"),
    ("step", lambda t: _changed(t, 1, math.nan), "NaN or infinite"),
    ("step", lambda t: _changed(t, 1, 3e38), "past the largest"),
    ("pull", lambda t: _changed(t, 1, 0.51), "pull not within"),
    ("pull", lambda t: _changed(t, 1, -0.1), "pull not within"),
    ("clip", lambda t: _changed(t, 0, 0), "clip is not within"),
    ("clip", lambda t: _changed(t, 0, MAX_CLIP + 1), "clip is not within"),
    ("clip", lambda t: _changed(t, 0, 2), "frequencies a group"),
    ("clip", lambda t: t.flip(0), "do not sum"),
    ("frequencies", lambda t: t[:-1], "frequencies a group"),
    ("frequencies", lambda t: _changed(t, 0, 0), "not positive"),
    ("frequencies", lambda t: _changed(t, 0, -5), "not positive"),
    ("frequencies", lambda t: _changed(t, 0, int(t[0]) + 1), "do not sum"),
    ("frequencies", lambda t: t.float(), "frequencies is not"),
    ("frequencies", lambda t: None, "frequencies is not"),
]


@pytest.mark.parametrize(("name", "change", "message"), _CHANGES)
def test_tables_that_are_none_are_refused(name: str, change: Any, message: str) -> None:
    tensors = made([1, 3, 20]).to_tensors()
    tensors[name] = change(tensors[name])
    with pytest.raises(CodecError, match=message):
        TransformTables.from_tensors(tensors)


def test_parts_that_are_missing_or_unknown_are_refused() -> None:
    tensors = made([1, 3]).to_tensors()
    with pytest.raises(CodecError, match="unknown parts: more"):
        TransformTables.from_tensors(tensors | {"more": torch.zeros(1)})
    del tensors["pull"]
    with pytest.raises(CodecError, match="unknown parts: pull"):
        TransformTables.from_tensors(tensors)
